#!/usr/bin/env python3
"""What the compiled library shows of itself.

    scripts/check_symbols.py BUILD-FOLDER

libcarat.so exports exactly the functions that include/ declares; libcarat.a defines them too, and else nothing but what
starts with ct_; no file keeps mutable state of the process, except what scripts/lint-allow.txt allows with a reason.
Prints one line for each breach.
"""
import glob
import os
import re
import subprocess
import sys

from check_api import functions
from check_sources import allowed


def nm(*arguments):
    return subprocess.run(["nm", *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


def main(build):
    breaches = []
    allow = allowed()
    public = {f[0] for header in glob.glob("include/*.h") for f in functions(header)}
    exported = {line.split()[-1] for line in nm("-D", "--defined-only", os.path.join(build, "libcarat.so"))}
    for name in sorted(exported - public):
        breaches.append("libcarat.so exports %s, which no header declares" % name)
    for name in sorted(public - exported):
        breaches.append("libcarat.so does not export %s, which a header declares" % name)
    # NAME CLASS VALUE SIZE, and a line for each member
    archive = {line.split()[0] for line in nm("-g", "--defined-only", "--format=posix", os.path.join(build, "libcarat.a"))
               if len(line.split()) > 2}
    for name in sorted(archive):
        if not name.startswith("ct_") and name not in public:
            breaches.append("libcarat.a defines %s: expected the prefix ct_, or a declaration in include/" % name)
    for name in sorted(public - archive):
        breaches.append("libcarat.a does not define %s, which a header declares" % name)
    objects = []
    for where, _, names in os.walk(os.path.join(build, "CMakeFiles")):
        if re.search(r"/room_\w+\.dir/", where + "/"):
            objects += [os.path.join(where, name) for name in names if name.endswith(".o")]
    for path in sorted(objects):
        source = re.sub(r".*/room_\w+\.dir/", "", path)[: -len(".o")]
        if not os.path.exists(source):
            continue  # left in the folder by a file that has since gone
        # name|value|class|type|size|line|section: the section tells constants that hold addresses from variables
        for line in nm("--defined-only", "--format=sysv", path):
            fields = [field.strip() for field in line.split("|")]
            if len(fields) < 7:
                continue
            name, kind, section = fields[0], fields[2], fields[6]
            plain = re.sub(r"\.\d+$", "", name)  # a static inside a function carries a number
            if kind in "TDBRC" and not re.match(r"(ct|carat)_", name):
                breaches.append("%s: shares '%s' with other files: expected the prefix ct_ (or static)" % (source, name))
            mutable = section in (".bss", ".data", ".tbss", ".tdata", "*COM*") or (
                section.startswith((".bss.", ".data.")) and not section.startswith(".data.rel.ro"))
            if mutable and fields[3] in ("OBJECT", "TLS") and ("global", source, plain) not in allow:
                breaches.append("%s: '%s' is a mutable global: pass state in, or say why in scripts/lint-allow.txt" % (source, plain))
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
