// Makes the JSON schema of the broker's configuration from its proto, for the chart's
// values.schema.json, so that a mistyped key is refused before anything is installed.
//
//   buf build protos -o -#format=json | node config_schema.mjs check|write VALUES_SCHEMA_JSON
//
// Only `definitions` of that file is touched. "check" ends with status 1 if it is not up to date.
import { readFileSync, writeFileSync } from 'node:fs';

const PACKAGE = '.tokenbroker.config.v1.';
const DURATION = '.google.protobuf.Duration';

const [mode, schemaFile] = process.argv.slice(2);
const image = JSON.parse(readFileSync(0, 'utf8'));
const files = image.file.filter((file) => `.${file.package}.` === PACKAGE);
if (files.length === 0) throw new Error(`no file of package ${PACKAGE} in the input`);

// Comments by the path that descriptor.proto gives to each declaration.
function commentsOf(file) {
  const comments = new Map();
  for (const location of file.sourceCodeInfo?.location ?? []) {
    const text = location.leadingComments?.trim().replace(/\s*\n\s*/g, ' ');
    if (text) comments.set(location.path.join('.'), text);
  }
  return comments;
}

function typeOf(field) {
  switch (field.type) {
    case 'TYPE_STRING':
      return { type: 'string' };
    case 'TYPE_BOOL':
      return { type: 'boolean' };
    case 'TYPE_INT32':
      return { type: 'integer', minimum: -(2 ** 31), maximum: 2 ** 31 - 1 };
    case 'TYPE_ENUM':
      return { $ref: `#/definitions/${field.typeName.replace(PACKAGE, '')}` };
    case 'TYPE_MESSAGE':
      if (field.typeName === DURATION) {
        return { type: 'string', pattern: '^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$' };
      }
      return { $ref: `#/definitions/${field.typeName.replace(PACKAGE, '')}` };
    default:
      throw new Error(`${field.name} has a type without a rule here: ${field.type}`);
  }
}

const definitions = {};
for (const file of files) {
  const comments = commentsOf(file);
  (file.messageType ?? []).forEach((message, index) => {
    const properties = {};
    (message.field ?? []).forEach((field, fieldIndex) => {
      const type = typeOf(field);
      const whole = field.label === 'LABEL_REPEATED' ? { type: 'array', items: type } : type;
      const description = comments.get(`4.${index}.2.${fieldIndex}`);
      // Draft 7 ignores what stands beside a $ref.
      properties[field.name] = whole.$ref
        ? { description, allOf: [whole] }
        : { description, ...whole };
    });
    definitions[message.name] = {
      description: comments.get(`4.${index}`),
      type: 'object',
      additionalProperties: false,
      properties,
    };
  });
  (file.enumType ?? []).forEach((enumeration, index) => {
    // The style guide's zero value is PREFIX_UNSPECIFIED.
    const zero = enumeration.value.find((value) => (value.number ?? 0) === 0);
    const prefix = zero.name.replace(/UNSPECIFIED$/, '');
    const names = enumeration.value.filter((value) => value !== zero).map((value) => value.name);
    definitions[enumeration.name] = {
      description: comments.get(`5.${index}`),
      enum: [...names.map((name) => name.replace(prefix, '')), ...names],
    };
  });
}

const before = readFileSync(schemaFile, 'utf8');
const schema = JSON.parse(before);
schema.definitions = definitions;
const after = `${JSON.stringify(schema, null, 2)}\n`;
if (mode === 'write') {
  writeFileSync(schemaFile, after);
} else if (after !== before) {
  process.stderr.write(`${schemaFile} does not match the config's proto: run tests/helm/chart_test.sh --update-schema\n`);
  process.exit(1);
}
