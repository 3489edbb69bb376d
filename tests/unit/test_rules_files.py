"""Which files are rules, and whose: a rule runs as root, so nobody else may have a hand in one."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server import rules_files
from server.rules_files import look, read
from shim.actions import RunAction
from tests.unit.rules_bed import RULE, hooks_directory, put

NOBODY = 65534


def words(directory: Path) -> list[str]:
    """The rules that a directory has, each by its command's word; it must have no problems."""
    contents = read(directory)
    assert contents is not None
    assert contents.problems == ()
    found = []
    for rule in contents.rules.rules:
        action = rule.hooks[0].handler.action
        assert isinstance(action, RunAction)
        found.append(f"{rule.name}={action.command[0].removeprefix('/bin/')}")
    return found


def problems(directory: Path) -> list[str]:
    """What is wrong with a directory; it must have no rules then."""
    contents = read(directory)
    assert contents is not None
    assert contents.problems
    assert contents.rules.rules == ()
    return list(contents.problems)


def test_rules_are_read_in_the_order_of_their_files_names(tmp_path: Path) -> None:
    """As ``ls`` lists them in the C locale, whatever order the disk has."""
    directory = hooks_directory(tmp_path, **{"20-b": "b", "10": "ten", "9": "nine", "10-a": "a", "B": "B", "a": "last"})
    assert words(directory) == ["10-a=a", "10=ten", "20-b=b", "9=nine", "B=B", "a=last"]


def test_no_directory_and_an_empty_one_are_no_rules(tmp_path: Path) -> None:
    """Rules are for who wants them."""
    assert words(tmp_path / "none") == words(tmp_path / "no" / "ne") == words(hooks_directory(tmp_path)) == []


def test_what_editors_and_packages_leave_behind_is_no_rule(tmp_path: Path) -> None:
    """Hidden files, backups and what dpkg and rpm put beside a changed file are not read, whoever's they are."""
    directory = hooks_directory(tmp_path, a="a")
    for name in (".a.toml", ".#a.toml", "a.toml~", "#a.toml#", "a.toml.dpkg-new", "a.toml.rpmsave", "README", "a.TOML"):
        put(directory / name, "no rule").chmod(0o666)
    (directory / "..data").mkdir()
    assert words(directory) == ["a=a"]


def test_every_problem_of_every_file_is_told_at_once_and_no_rule_is_used(tmp_path: Path) -> None:
    """The good file's rule does not run without the others: half of the rules is what nobody has described."""
    directory = hooks_directory(tmp_path, good="a")
    put(directory / "1.toml", "whn = 1\n" + RULE.format(word="x"))
    put(directory / "2.toml", "x")
    put(directory / "b d.toml", RULE.format(word="x")).chmod(0o620)
    assert [line.removeprefix(f"{directory}/") for line in problems(directory)] == [
        '1.toml: the rule: expected one of when, match, handlers, found the unknown field "whn"; did you mean when?',
        "2.toml: line 1, at the end of the file: expected TOML: Expected '=' after a key in a key/value pair",
        "b d.toml: expected a file that only its owner may write, found mode 0620",
        (
            'b d.toml: its name: expected a name of letters, digits, "-", "_" and ".", at most 100, a letter or digit '
            'first, found "b d"'
        ),
    ]


def _mode(mode: int) -> Callable[[Path], None]:
    return lambda path: path.chmod(mode)


def _give_away(path: Path) -> None:
    os.chown(path, NOBODY, 0)


#: What is done to the file, and what is said of it; then the same for the directory.
LOOSE: list[tuple[Callable[[Path], None], str]] = [
    (_mode(0o664), "expected {what} that only its owner may write, found mode 0664"),
    (_mode(0o646), "expected {what} that only its owner may write, found mode 0646"),
    (_mode(0o1777), "expected {what} that only its owner may write, found mode 1777"),
    (_give_away, "expected {what} that is root's, found one of uid 65534"),
]


@pytest.mark.parametrize(("loosen", "expected"), LOOSE)
def test_a_file_that_somebody_else_may_write_is_refused(
    tmp_path: Path, loosen: Callable[[Path], None], expected: str
) -> None:
    """Its owner or its mode, in words that say what to change."""
    directory = hooks_directory(tmp_path, a="a")
    loosen(directory / "a.toml")
    assert problems(directory) == [f"{directory}/a.toml: {expected.format(what='a file')}"]


@pytest.mark.parametrize(("loosen", "expected"), LOOSE)
def test_a_directory_that_somebody_else_may_write_is_refused(
    tmp_path: Path, loosen: Callable[[Path], None], expected: str
) -> None:
    """Who may put a file there may put a rule there; also one that is empty as yet, and also a sticky one."""
    directory = hooks_directory(tmp_path)
    loosen(directory)
    assert problems(directory) == [f"{directory}: {expected.format(what='a directory')}"]


def test_a_directory_above_that_somebody_else_may_write_is_refused_once(tmp_path: Path) -> None:
    """Who may rename the directory may put another one in its place. In a sticky one (/tmp) they cannot."""
    directory = hooks_directory(tmp_path, a="a", b="b")
    tmp_path.chmod(0o777)
    expected = f"it is in {tmp_path}: expected a directory that only its owner may write, found mode 0777"
    assert problems(directory) == [f"{directory}: {expected}"]
    tmp_path.chmod(0o1777)
    assert words(directory) == ["a=a", "b=b"]


def test_a_link_to_the_directory_is_held_to_the_same_rule_at_both_ends(tmp_path: Path) -> None:
    """Who may exchange the link chooses the rules, and so does who may exchange what it leads to."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir(0o755)
    directory = hooks_directory(tmp_path / "there", a="a")
    link = tmp_path / "here/hooks.d"
    link.symlink_to(directory)
    assert words(link) == ["a=a"]
    for parent in (link.parent, directory.parent):
        parent.chmod(0o777)
        (line,) = problems(link)
        assert line.startswith(f"{link}: it is in {parent}: expected a directory that only its owner may write")
        parent.chmod(0o755)


def test_links_are_followed_and_what_they_lead_to_is_held_to_the_same_rule(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links in links. The file's own mode counts, and where it is, not the link's."""
    directory = hooks_directory(tmp_path)
    (directory / "..2026").mkdir(0o755)
    (directory / "..data").symlink_to("..2026")
    file = put(directory / "..2026/a.toml", RULE.format(word="a"))
    (directory / "a.toml").symlink_to("..data/a.toml")
    assert words(directory) == ["a=a"]
    file.chmod(0o666)
    assert problems(directory) == [
        f"{directory}/a.toml: expected a file that only its owner may write, found mode 0666"
    ]
    file.chmod(0o644)
    file.parent.chmod(0o775)
    assert problems(directory) == [
        (
            f"{directory}/a.toml: it is in {file.parent}: expected a directory that only its owner may write, "
            "found mode 0775"
        )
    ]
    file.unlink()
    assert problems(directory) == [f"{directory}/a.toml: expected a file, found a link to nothing"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Path.mkdir, "expected a file, found a directory"),
        (os.mkfifo, "expected a file, found a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a file, found a device"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: put(path, b"#" * 65537), "expected at most 65536 bytes, found more"),
    ],
)
def test_what_is_no_file_of_a_sensible_size_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], expected: str
) -> None:
    """A pipe that nobody writes to and a device without an end keep nobody waiting."""
    directory = hooks_directory(tmp_path)
    make(directory / "a.toml")
    assert problems(directory) == [f"{directory}/a.toml: {expected}"]


def test_what_is_no_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    """It is not taken for "no rules"."""
    file = put(tmp_path / "hooks.d", RULE.format(word="a"))
    assert problems(file) == [f"{file}: cannot be read: Not a directory"]
    loop = tmp_path / "loop.d"
    loop.symlink_to(loop)
    assert problems(loop) == [f"{loop}: cannot be read: Too many levels of symbolic links"]


def test_more_files_than_a_node_can_need_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that something fills up does not fill the memory."""
    monkeypatch.setattr(rules_files, "MAX_FILES", 2)
    directory = hooks_directory(tmp_path, a="a", b="b", c="c")
    assert problems(directory) == [f"{directory}: expected at most 2 rules, found 3"]


@contextmanager
def _as(uid: int) -> Iterator[None]:
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_without_root_the_own_users_files_are_as_good_as_roots() -> None:
    """Who runs hookshim can change hookshim; a third one's files are refused all the same."""
    with tempfile.TemporaryDirectory() as parent:
        directory = hooks_directory(Path(parent), a="a", b="b")
        for path in (Path(parent), directory, directory / "a.toml"):
            os.chown(path, NOBODY, 0)
        with _as(NOBODY):
            assert words(directory) == ["a=a", "b=b"]
            (directory / "a.toml").chmod(0)
            assert problems(directory) == [f"{directory}/a.toml: cannot be read: Permission denied"]
            (directory / "a.toml").chmod(0o600)
        os.chown(directory / "b.toml", NOBODY - 1, 0)
        with _as(NOBODY):
            assert problems(directory) == [
                f"{directory}/b.toml: expected a file that is root's, found one of uid {NOBODY - 1}"
            ]


def test_each_kind_of_change_is_seen_without_reading(tmp_path: Path) -> None:
    """A file's text, mode, owner and name, one that comes or goes, a directory above; without one nothing changes."""
    directory = hooks_directory(tmp_path, a="a")
    file = directory / "a.toml"
    changes: list[Callable[[], object]] = [
        lambda: file.write_bytes(file.read_bytes() + b"\n"),
        lambda: put(file, file.read_bytes()),
        lambda: file.chmod(0o600),
        lambda: os.chown(file, NOBODY, 0),
        lambda: put(directory / "b.toml", ""),
        lambda: (directory / "b.toml").rename(directory / "c.toml"),
        (directory / "c.toml").unlink,
        lambda: directory.chmod(0o700),
        lambda: tmp_path.chmod(0o777),
        lambda: shutil.rmtree(directory),
    ]
    seen = look(directory)
    put(directory / ".a.toml.swp", "an editor's")
    for change in changes:
        assert look(directory) == seen
        change()
        now = look(directory)
        assert now != seen
        seen = now


def test_files_that_are_replaced_while_they_are_read_are_never_mixed(tmp_path: Path) -> None:
    """Against a writer that replaces all of them, by one rename, as fast as it can: each answer is one generation's."""
    names = [str(number) for number in range(10)]
    link = tmp_path / "link"
    done = threading.Event()

    def replace(generation: int) -> None:
        parent = tmp_path / str(generation)
        parent.mkdir()
        hooks_directory(parent, **dict.fromkeys(names, f"g{generation}"))
        (tmp_path / "new").symlink_to(parent / "hooks.d")
        (tmp_path / "new").rename(link)
        if generation:
            shutil.rmtree(tmp_path / str(generation - 1))

    def write() -> None:
        for generation in range(1, 100):
            replace(generation)
        done.set()

    replace(0)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not done.is_set():
            contents = read(link)
            if contents is not None:
                assert contents.problems == ()
                assert len(contents.rules.rules) == len(names)
                assert len({rule.hooks for rule in contents.rules.rules}) == 1
    finally:
        writer.join()
    assert words(link) == [f"{name}=g99" for name in names]
