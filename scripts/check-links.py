#!/usr/bin/env python3
"""Checks the Markdown documents of this repository without a network.

- Every relative link refers to an existing file, and its anchor to a heading of that file.
- The same for images and reference-style links.
- In the documents for developers (ARCHITECTURE.md, CONTRIBUTING.md, docs/dev, docs/adr), every file and folder in backticks
  exists, and every name in backticks (`function_name`) occurs in the source. --links skips this check and the next.
- In these documents, in docs/library.md and in the comments of src, each `Type::member` of a type of this repository is a
  member of that type: a field, variant, function, constant or type in its definition, its impl blocks, or its traits.

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


# Comments, string literals and character literals: what may contain braces that open and close nothing.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hashes>\#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^']*|[^'\\])'""", re.S
)
# The start of a definition or of an impl block; `for` is what follows the trait of an impl.
BLOCK = re.compile(
    r"""\b(?:struct|enum|trait|union)\s+(?P<type>\w+)
      |\bimpl\b(?:<(?:[^<>]|<[^<>]*>)*>)?\s+(?:(?P<trait>[\w:]+)(?:<(?:[^<>]|<[^<>]*>)*>)?\s+for\s+)?&?(?:\w+::)*(?P<impl>\w+)
      |\bmacro_rules!\s+(?P<macro>\w+)""",
    re.X,
)
# Members that a derive or the standard library's blanket implementations give a type.
GIVEN = {"default", "clone", "from", "into", "try_from", "try_into", "fmt", "eq", "cmp", "hash", "drop", "to_string", "from_str"}


def block_after(code, start):
    """The text from the brace that follows `start` to its end; empty if a semicolon comes first."""
    match = re.compile(r"[{;]").search(code, start)
    if not match or match.group() == ";":
        return ""
    depth = 0
    for brace in re.compile(r"[{}]").finditer(code, match.start()):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return code[match.start() : brace.end()]
    return code[match.start() :]


def top_level(block):
    """A block without attributes and without what is in its inner brackets."""
    kept, depth = [], 0
    plain = re.sub(r"#!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]", "", block)
    for part in re.findall(r"[^(){}\[\]]+|[(){}\[\]]", plain):
        depth -= part in ")}]"
        if depth <= 1 and part not in "()[]":
            kept.append(part)
        depth += part in "({["
    return "".join(kept)


def type_members(sources):
    """By the name of a type or trait of these sources: the names of its members."""
    members, traits = {}, {}
    codes = [NO_CODE.sub("", source) for source in sources]
    for code in codes:
        for match in BLOCK.finditer(code):
            block = block_after(code, match.end())
            if match.group("macro"):
                # Such as `setters! { seed: SeedGoal; }`, whose macro has an impl block with a method for each name.
                for name in re.findall(r"\bimpl\s+(\w+)", block):
                    for call in re.finditer(rf"\b{match.group('macro')}!\s*(?={{)", code):
                        members.setdefault(name, set()).update(re.findall(r"\b(\w+)\s*:", block_after(code, call.end())))
                continue
            name = match.group("type") or match.group("impl")
            own = members.setdefault(name, set())
            own.update(re.findall(r"\b(?:fn|const|type)\s+(\w+)", top_level(block)))
            if match.group("type"):
                own.update(re.findall(r"\b(\w+)\s*:(?!:)", top_level(block)))
                own.update(re.findall(r"[{,]\s*([A-Z]\w*)\s*(?=[,{}=])", top_level(block)))
            if match.group("trait"):
                traits.setdefault(name, set()).add(match.group("trait").split("::")[-1])
    for name, its in traits.items():
        for trait in its:
            members[name] |= members.get(trait, set())
    return members


def check_members(name, text, members):
    """Reports each `Type::member` in backticks whose type is in `members` and has no such member."""
    for match in re.finditer(r"`([^`\n]+)`", text):
        for owner, member in re.findall(r"\b([A-Z]\w+)::(\w+)", match.group(1)):
            if member not in members.get(owner, {member}) | GIVEN:
                line = text.count("\n", 0, match.start()) + 1
                yield f"{name}:{line}: {owner}::{member}: {owner} has no such member"


def comments(source):
    """The comments of a source file, each on its line."""
    kept, end = [], 0
    for match in NO_CODE.finditer(source):
        kept.append("\n" * source.count("\n", end, match.start()))
        text = match.group()
        kept.append(text if text.startswith("/") else "\n" * text.count("\n"))
        end = match.end()
    return "".join(kept)


def check_names(name, text, files, words):
    """Reports files, folders and names in backticks that do not exist in the source."""
    plain = without_code(text)
    for match in re.finditer(r"`([^`\n]+)`", plain):
        code, line = match.group(1), plain.count("\n", 0, match.start()) + 1
        if code in FOREIGN:
            continue
        if re.fullmatch(r"[\w./-]+\.(rs|py|sh|md|toml|js|mjs)", code):
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
    rust = {name: (ROOT / name).read_text() for name in files if name.endswith(".rs")}
    source = "\n".join(rust.values())
    members = type_members([text for name, text in rust.items() if name.startswith("src/")])
    scripts = "\n".join((ROOT / name).read_text() for name in files if name.endswith((".js", ".mjs")))
    words = set(re.findall(r"\w+", re.sub(r"//.*", "", source + scripts) + (ROOT / "Makefile").read_text()))
    problems = []
    for name in documents:
        text = (ROOT / name).read_text()
        problems += check_links(name, text)
        if "--links" not in sys.argv[1:] and re.match(r"ARCHITECTURE\.md|CONTRIBUTING\.md|docs/(dev|adr)/|docs/library\.md", name):
            problems += check_members(name, without_code(text), members)
            if name != "docs/library.md":
                problems += check_names(name, text, files, words)
    if "--links" not in sys.argv[1:]:
        for name, text in rust.items():
            if name.startswith("src/"):
                problems += check_members(name, comments(text), members)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(documents)} documents: links and names are right")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
