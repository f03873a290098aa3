# Command-line tools of the project: under .tools/bin of the clone, built once per machine and
# pinned version (the cache folder), linked from there.
# shellcheck shell=bash

# go_command: prints the path of a Go of at least GO_MINIMUM, or nothing.
go_command() {
  local go
  for go in "$(command -v go || true)" "$CACHE_DIR/go-$GO_MINIMUM/lib/go/bin/go" \
    /usr/lib/go-"$GO_MINIMUM"/bin/go /usr/local/go/bin/go; do
    [[ -n $go && -x $go ]] || continue
    if version_at_least "$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')" "$GO_MINIMUM"; then
      printf '%s' "$go"
      return 0
    fi
  done
}

# go_install: from the machine; else the machine's Debian; else, unpacked into the cache and not
# installed, the packages of DONOR_RELEASE.
go_install() {
  [[ -z $(go_command) ]] || return 0
  if [[ $(debian_codename) != bookworm ]]; then
    debian_install golang-go
  else
    say "no Go $GO_MINIMUM on this machine: unpacking the one of $DONOR_RELEASE into the cache"
    donor_apt_begin
    run_long "fetching Go" donor_apt download "golang-$GO_MINIMUM-go" "golang-$GO_MINIMUM-src"
    local into=$CACHE_DIR/go-$GO_MINIMUM package
    rm -rf "$into" "$into.new"
    mkdir -p "$into.new/root" "$into.new/lib/go"
    for package in "$DONOR_DIR"/work/*.deb; do dpkg-deb -x "$package" "$into.new/root"; done
    # Debian splits GOROOT in two packages and joins them by absolute links; here it is one tree.
    cp -a "$into.new/root/usr/share/go-$GO_MINIMUM/." "$into.new/lib/go/"
    local entry
    for entry in bin pkg VERSION go.env; do
      [[ -e $into.new/root/usr/lib/go-$GO_MINIMUM/$entry ]] || continue
      rm -rf "${into:?}.new/lib/go/$entry"
      cp -aL "$into.new/root/usr/lib/go-$GO_MINIMUM/$entry" "$into.new/lib/go/$entry" 2>/dev/null ||
        cp -a "$into.new/root/usr/lib/go-$GO_MINIMUM/$entry" "$into.new/lib/go/$entry"
    done
    rm -rf "$into.new/root"
    mv "$into.new" "$into"
    donor_apt_end
  fi
  [[ -n $(go_command) ]] || die "no Go of at least $GO_MINIMUM could be installed"
}

# go_tool NAME VERSION PACKAGE [LDFLAGS]: .tools/bin/NAME is that version.
go_tool() {
  local name=$1 version=$2 package=$3 ldflags=${4:-} cached
  cached=$CACHE_DIR/$name-$version/$name
  if [[ ! -x $cached ]]; then
    go_install
    mkdir -p "$CACHE_DIR"
    local staging
    staging=$(mktemp -d "$CACHE_DIR/$name-$version.XXXXXX")
    run_long "building $name $version with Go (once per machine)" \
      env GOBIN="$staging" GOTOOLCHAIN=local GOFLAGS="-p=2 -trimpath" CGO_ENABLED=0 \
      "$(go_command)" install -v -ldflags "-s -w $ldflags" "$package@$version"
    chmod 755 "$staging"
    rm -rf "${cached%/*}"
    mv "$staging" "${cached%/*}"
  fi
  tool_link "$name" "$cached"
}

# tool_link NAME TARGET
tool_link() {
  mkdir -p "$TOOLS_DIR/bin"
  [[ $(readlink "$TOOLS_DIR/bin/$1" 2>/dev/null) == "$2" ]] || ln -sfn "$2" "$TOOLS_DIR/bin/$1"
}

grpcurl_install() {
  go_tool grpcurl "$GRPCURL_VERSION" github.com/fullstorydev/grpcurl/cmd/grpcurl \
    "-X main.version=$GRPCURL_VERSION"
}

# Without the last two, helm takes every cluster for a Kubernetes 1.20 where it can't ask one; 1.33
# is what this helm's own build sets.
helm_install() {
  local packages=helm.sh/helm/v3
  go_tool helm "$HELM_VERSION" "$packages/cmd/helm" \
    "-X $packages/internal/version.version=$HELM_VERSION
     -X $packages/pkg/chartutil.k8sVersionMajor=1 -X $packages/pkg/chartutil.k8sVersionMinor=33
     -X $packages/pkg/lint/rules.k8sVersionMajor=1 -X $packages/pkg/lint/rules.k8sVersionMinor=33"
}

# npm_install FOLDER: FOLDER/node_modules is exactly what FOLDER/package-lock.json says.
npm_install() {
  local folder=$1 stamp wanted
  stamp=$folder/node_modules/.lock-sha256
  wanted=$(sha256sum "$folder/package-lock.json" | cut -d' ' -f1)
  [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return 0
  command -v npm >/dev/null || debian_install nodejs npm
  run_long "installing the npm packages of ${folder#"$ROOT_DIR"/}" \
    npm ci --prefix "$folder" --prefer-offline --ignore-scripts --no-audit --no-fund
  printf '%s\n' "$wanted" >"$stamp"
}

# npm_tools_install: .tools/bin/buf and .tools/bin/yaml, in the cache under the lock file's digest.
npm_tools_install() {
  local lock=$ROOT_DIR/scripts/tools cached name
  cached=$CACHE_DIR/npm-tools-$(sha256sum "$lock/package-lock.json" | cut -c1-16)
  if [[ ! -f $cached/node_modules/.lock-sha256 ]]; then
    mkdir -p "$cached"
    cp "$lock/package.json" "$lock/package-lock.json" "$lock/.npmrc" "$cached/"
    npm_install "$cached"
  fi
  for name in buf yaml; do tool_link "$name" "$cached/node_modules/.bin/$name"; done
}
