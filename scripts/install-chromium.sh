#!/bin/sh
# Install Chromium for the browser tests, where that is possible without asking anyone: as root on a
# Debian-like machine. Anywhere else say so and succeed, because the tests without a browser still count.
set -u

if command -v chromium >/dev/null 2>&1; then
    echo "chromium: $(command -v chromium)"
    exit 0
fi

skipped() {
    echo "chromium is not installed ($1): THE BROWSER TESTS WILL BE SKIPPED" >&2
    exit 0
}

[ "$(id -u)" = 0 ] || skipped "not root; run 'sudo apt-get install chromium'"
command -v apt-get >/dev/null 2>&1 || skipped "no apt-get; put a 'chromium' on the PATH"

echo "installing chromium for the browser tests with apt-get: about 300 MB on disk, a minute or two"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || skipped "apt-get update failed"
apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null ||
    skipped "apt-get install chromium failed"
echo "chromium: $(command -v chromium)"
