#!/usr/bin/env python3
"""Checks the Markdown documents of this repository without a network.

- Every relative link refers to an existing file, and its anchor to a heading of that file.
- The same for images and reference-style links.
- In the documents for developers (ARCHITECTURE.md, CONTRIBUTING.md, docs/dev, docs/adr), every file and folder in backticks
  exists, and every name in backticks (`Type::member`, `function_name`) occurs in the source. --links skips this check.

Prints one line for each problem. Exit code: 0 without a problem, otherwise 1.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Names in backticks from outside our source: system calls, kernel options, other programs.
FOREIGN = {
    "pread", "pwrite", "writev", "waitpid", "fstat", "recvmsg", "unsafe", "perf", "sendfile", "wait4", "poll", "epoll", "accept",
    "connect", "recv", "write", "flock", "openat2", "aria2", "O_EXCL", "TCP_NOTSENT_LOWAT", "SEEK_DATA", "real_clients",
    # Placeholders of examples.
    "foo.rs", "foo/tests.rs", "foo/tests/",
}


def tracked():
    """Files tracked by git, and new files that are not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def without_code(text):
    """The text without fenced code blocks, with as many lines as before."""
    return re.sub(r"^```.*?^```", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.S | re.M)


def anchors(path):
    """The anchors of a document's headings, as GitHub generates them."""
    found, seen = set(), {}
    for heading in re.findall(r"^#+ +(.*?) *#*$", without_code(path.read_text()), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", text).strip().lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def links(text):
    """Each link's line and target."""
    plain = re.sub(r"`[^`\n]*`", lambda m: " " * len(m.group(0)), without_code(text))
    for match in re.finditer(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", plain, re.M):
        yield plain.count("\n", 0, match.start()) + 1, match.group(1) or match.group(2)


def check_links(name, text):
    for line, link in links(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists():
            yield f"{name}:{line}: {link}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{name}:{line}: {link}: no such heading"


def check_names(name, text, files, words):
    """Reports files, folders and names in backticks that do not exist in the source."""
    plain = without_code(text)
    for match in re.finditer(r"`([^`\n]+)`", plain):
        code, line = match.group(1), plain.count("\n", 0, match.start()) + 1
        if code in FOREIGN:
            continue
        if re.fullmatch(r"[\w./-]+\.(rs|py|sh|md|toml)", code):
            end = "/" + code.lstrip("./")
            if not any(("/" + file).endswith(end) for file in files):
                yield f"{name}:{line}: {code}: no such file"
        elif re.fullmatch(r"[\w.-]+(/[\w.-]+)*/", code):
            if not re.search(r"[A-Z]{3}", code) and not any("/" + code in "/" + file for file in files):
                yield f"{name}:{line}: {code}: no such folder"
        elif re.fullmatch(r"[A-Za-z_]\w*(::\w+)*(?<!_)", code) and re.search(r"_|::|^[A-Z][a-z]+[A-Z]", code):
            missing = [part for part in code.split("::") if part not in words]
            if missing and code not in FOREIGN:
                yield f"{name}:{line}: {code}: not in the source"


def main():
    files = tracked()
    documents = [name for name in files if name.endswith(".md")]
    source = "\n".join((ROOT / name).read_text() for name in files if name.endswith(".rs"))
    words = set(re.findall(r"\w+", re.sub(r"//.*", "", source) + (ROOT / "Makefile").read_text()))
    problems = []
    for name in documents:
        text = (ROOT / name).read_text()
        problems += check_links(name, text)
        if "--links" not in sys.argv[1:] and re.match(r"ARCHITECTURE\.md|CONTRIBUTING\.md|docs/(dev|adr)/", name):
            problems += check_names(name, text, files, words)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(documents)} documents: links and names are right")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
