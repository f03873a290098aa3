# hiredis: from Debian where that is new enough, else Debian 13's own source package.
# shellcheck shell=bash

hiredis_present() {
  PKG_CONFIG_PATH=/usr/local/lib/pkgconfig:${PKG_CONFIG_PATH:-} \
    pkg-config --atleast-version="$HIREDIS_MINIMUM" hiredis 2>/dev/null
}

hiredis_install() {
  if hiredis_present; then return 0; fi
  if [[ $(debian_codename) != bookworm ]]; then
    debian_install libhiredis-dev
    hiredis_present || die "libhiredis-dev of this Debian is older than $HIREDIS_MINIMUM"
    return 0
  fi
  say "this Debian's hiredis is too old: building the source package of $DONOR_RELEASE"
  debian_install dpkg-dev xz-utils patch
  donor_apt_begin
  run_long "fetching hiredis' source package" donor_apt source hiredis
  local source
  source=$(find "$DONOR_DIR/work" -mindepth 1 -maxdepth 1 -type d -name 'hiredis-*')
  run_long "building hiredis" cmake -S "$source" -B "$DONOR_DIR/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_INSTALL_PREFIX=/usr/local \
    -DCMAKE_INSTALL_LIBDIR=lib -DDISABLE_TESTS=ON
  run_long "compiling hiredis" cmake --build "$DONOR_DIR/build" -j2
  run_long "installing hiredis under /usr/local" as_root cmake --install "$DONOR_DIR/build"
  as_root ldconfig
  donor_apt_end
  hiredis_present || die "hiredis was installed, but pkg-config does not find it"
}
