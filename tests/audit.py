"""Reads pip-audit's JSON from stdin and says what it found: `make audit`. Exit code 1 where a package is vulnerable."""

from __future__ import annotations

import json
import sys


def verdict(report: str) -> tuple[int, str]:
    """The exit code, and the sentences to print. A package that nobody knows is said, not passed over."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        return 0, "dependency audit: NOT DONE, no advisories can be reached from here; repeat it where they can\n"
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no release'}\n"
        for one in packages
        for flaw in one.get("vulns", ())
    ]
    skipped = sum("skip_reason" in one for one in packages)
    done = f"dependency audit: {len(packages) - skipped} of {len(packages)} packages looked up, {len(lines)} flaws\n"
    if skipped == len(packages):
        done = "dependency audit: NOT DONE, this package index serves no advisories; repeat it where they are served\n"
    return int(bool(lines)), "".join([*lines, done])


if __name__ == "__main__":
    code, text = verdict(sys.stdin.read())
    sys.stdout.write(text)
    sys.exit(code)
