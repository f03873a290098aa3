# The versions of everything that is not taken from the machine's Debian release.
# shellcheck shell=bash disable=SC2034

# Built by `go install`. Both build with Go 1.24, which is what Debian 13 has.
GRPCURL_VERSION=v1.9.3
HELM_VERSION=v3.18.6
GO_MINIMUM=1.24

# The release whose hiredis source package, Go and base image are used where the machine's own
# release is too old. hiredis 1.0 is the first whose reads and writes can be replaced, for TLS; 1.1
# is the oldest that is tested.
DONOR_RELEASE=trixie
HIREDIS_MINIMUM=1.1.0

# The base image's name, as FROM in the Dockerfile has it.
BASE_IMAGE=docker.io/library/debian:trixie-slim
