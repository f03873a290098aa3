# The broker's image: compiled on Debian 13, shipped with nothing but the run-time libraries.
#
#   docker build -t token-broker .
#
# Without a Docker engine: scripts/image.
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      g++ cmake ninja-build ccache pkg-config \
      libgrpc++-dev libgrpc-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev \
      libcurl4-openssl-dev libssl-dev libsqlite3-dev libhiredis-dev libyaml-cpp-dev \
      nlohmann-json3-dev libboost-dev prometheus-cpp-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The compiler's cache survives between builds and is no part of any layer. The second half notes
# which packages the program's shared libraries come from: the next stage installs exactly those.
# The libraries' names carry their ABI versions, so a list kept by hand would be wrong at the next
# rebuild of one of them. realpath: ldd names /lib, the package database knows /usr/lib.
RUN --mount=type=cache,target=/ccache \
    CCACHE_DIR=/ccache cmake --preset release -DTB_BUILD_TESTS=OFF \
 && CCACHE_DIR=/ccache cmake --build --preset release --target token-broker \
 && install -D -m 0755 -s "$(find build/release -type f -name token-broker -perm -u+x)" \
      /out/usr/bin/token-broker \
 && ldd /out/usr/bin/token-broker > /tmp/libraries \
 && ! grep 'not found' /tmp/libraries \
 && sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' /tmp/libraries | xargs realpath | xargs dpkg-query -S \
      | cut -d: -f1 | sort -u > /out/packages \
 && test -s /out/packages

FROM ${BASE}
# The list first: while it stays the same, so does the layer with the libraries.
COPY --from=build /out/packages /usr/share/token-broker/packages
# ca-certificates: Zoho's accounts servers are verified against Debian's bundle.
RUN apt-get update \
 && xargs env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates < /usr/share/token-broker/packages \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && install -d -o 65532 -g 65532 -m 0700 /var/lib/token-broker \
 && install -d -m 0755 /etc/token-broker
COPY --from=build /out/usr/bin/token-broker /usr/bin/token-broker
LABEL org.opencontainers.image.title="token-broker" \
      org.opencontainers.image.description="Zoho OAuth access tokens for microservices, over gRPC"
# Numeric, so that Kubernetes' runAsNonRoot can check it.
USER 65532:65532
WORKDIR /var/lib/token-broker
ENTRYPOINT ["/usr/bin/token-broker"]
CMD ["--config", "/etc/token-broker/config.yaml"]
