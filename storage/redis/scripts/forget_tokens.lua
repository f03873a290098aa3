-- Drops the tokens of a revoked record. ARGV: generation.
local generation = tonumber(ARGV[4])

if int('st') ~= REVOKED then return { 'KEPT' } end -- guard: forget-revoked
-- Registered and revoked again since: these are other tokens.
if int('g') ~= generation then return { 'KEPT' } end -- guard: forget-generation

save({ rt = '', at = '', ax = 0, ct = 0 })
return { 'FORGOTTEN' }
