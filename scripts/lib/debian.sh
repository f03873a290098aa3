# Debian packages: what is missing, installing it, and taking single packages of a newer release
# without changing the machine's apt configuration.
# shellcheck shell=bash

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_codename: the machine's release, such as bookworm.
debian_codename() {
  # shellcheck disable=SC1091
  (. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
}

# debian_missing PACKAGE...: prints those that are not installed.
debian_missing() {
  local package have
  have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
  for package in "$@"; do
    grep -qx "installed $package" <<<"$have" || printf '%s\n' "$package"
  done
}

apt_quietly() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@"
}

# The lists are fetched once a run, and only if something has to be installed.
APT_UPDATED=
debian_update() {
  [[ -z $APT_UPDATED ]] || return 0
  run_long "fetching the package lists" apt_quietly update
  APT_UPDATED=yes
}

# debian_install PACKAGE...: installs those that are missing. No service of theirs is started:
# the tests start their own servers on free ports.
debian_install() {
  local missing
  mapfile -t missing < <(debian_missing "$@")
  ((${#missing[@]} > 0)) || return 0
  debian_update
  say "to install: ${missing[*]}"
  local policy=/usr/sbin/policy-rc.d own_policy=
  if [[ ! -e $policy ]]; then
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  run_long "installing ${#missing[@]} Debian packages" \
    apt_quietly install -y --no-install-recommends "${missing[@]}"
  if [[ -n $own_policy ]]; then
    as_root rm -f "$policy"
    trap - EXIT
  fi
  # Not started now, and not at the next boot either; only where this run brought the package.
  if grep -qx redis-server <<<"$(printf '%s\n' "${missing[@]}")"; then
    if [[ -d /run/systemd/system ]]; then
      as_root systemctl disable --now redis-server >/dev/null 2>&1 || true
    else
      as_root update-rc.d redis-server disable >/dev/null 2>&1 || true
    fi
  fi
}

# debian_mirror: the address that the machine's apt uses for its own release. It is read from apt,
# so a local mirror or a proxy is used for everything here, and no address is written anywhere.
debian_mirror() {
  local uri
  uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
    "Release: $(debian_codename)" 'Component: main' | head -n 1)
  [[ -n $uri ]] || die "apt has no source with '$(debian_codename) main'"
  printf '%s' "$uri"
}

# donor_apt_begin / donor_apt ARG... / donor_apt_end: apt-get for DONOR_RELEASE with sources,
# lists and cache of its own, verified with the same keyring as the machine's own packages.
donor_apt_begin() {
  local package
  for package in $(debian_missing debian-archive-keyring); do debian_install "$package"; done
  DONOR_DIR=$(mktemp -d)
  mkdir -p "$DONOR_DIR/lists/partial" "$DONOR_DIR/cache/archives/partial" "$DONOR_DIR/work"
  : >"$DONOR_DIR/status"
  printf 'deb [signed-by=%s] %s %s main\ndeb-src [signed-by=%s] %s %s main\n' \
    "$DEBIAN_KEYRING" "$(debian_mirror)" "$DONOR_RELEASE" \
    "$DEBIAN_KEYRING" "$(debian_mirror)" "$DONOR_RELEASE" >"$DONOR_DIR/sources.list"
  # apt drops to the user _apt for downloads; the folder has to be readable for it.
  chmod -R a+rX "$DONOR_DIR"
  run_long "fetching the package lists of $DONOR_RELEASE" donor_apt update
}

donor_apt() {
  (cd "$DONOR_DIR/work" &&
    apt-get -o Dir::Etc::sourcelist="$DONOR_DIR/sources.list" -o Dir::Etc::sourceparts=/dev/null \
      -o Dir::State::lists="$DONOR_DIR/lists" -o Dir::State::status="$DONOR_DIR/status" \
      -o Dir::Cache="$DONOR_DIR/cache" -o APT::Sandbox::User= -o Acquire::Retries=3 \
      -o Debug::NoLocking=1 "$@")
}

donor_apt_end() {
  rm -rf "$DONOR_DIR"
  DONOR_DIR=
}
