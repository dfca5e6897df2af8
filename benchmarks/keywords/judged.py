"""Questions about the standard library, and the docstrings that answer them.

Judged by reading the documentation, before any answer was looked at. Some are asked in other words than the
documentation uses ("meaning"), some in its words ("words"), some name an identifier ("names").
"""

from __future__ import annotations

from typing import Final

# kind, question, the docstrings that answer it
JUDGED: Final[list[tuple[str, str, tuple[str, ...]]]] = [
    ("meaning", "delete a folder and everything in it", ("shutil.rmtree",)),
    ("meaning", "find where a program is installed", ("shutil.which",)),
    ("meaning", "duplicate a whole folder tree", ("shutil.copytree",)),
    (
        "meaning",
        "put something into an ordered list so that it stays ordered",
        ("bisect.insort_right", "bisect.insort_left"),
    ),
    (
        "meaning",
        "remember the results of earlier calls so that they are not computed again",
        ("functools.lru_cache", "functools.cache"),
    ),
    ("meaning", "which words look similar to a misspelled one", ("difflib.get_close_matches",)),
    (
        "meaning",
        "the middle value of some numbers",
        ("statistics.median", "statistics.median_low", "statistics.median_high", "statistics.median_grouped"),
    ),
    (
        "meaning",
        "how much do numbers vary around their average",
        ("statistics.stdev", "statistics.pstdev", "statistics.variance", "statistics.pvariance"),
    ),
    ("meaning", "do not let an exception through", ("contextlib.suppress",)),
    ("meaning", "send what is printed somewhere else", ("contextlib.redirect_stdout",)),
    (
        "meaning",
        "stop waiting for something after a few seconds",
        ("asyncio.tasks.wait_for", "asyncio.timeouts.timeout"),
    ),
    (
        "meaning",
        "do several coroutines at the same time and collect what they return",
        ("asyncio.tasks.gather",),
    ),
    (
        "meaning",
        "ask the user for a secret without showing it",
        ("getpass.unix_getpass", "getpass.win_getpass", "getpass.fallback_getpass", "getpass"),
    ),
    (
        "meaning",
        "open a page in the user's browser",
        ("webbrowser.open", "webbrowser.open_new", "webbrowser.open_new_tab"),
    ),
    ("meaning", "remove the common indentation of a text", ("textwrap.dedent",)),
    (
        "meaning",
        "break a long text into lines",
        ("textwrap.wrap", "textwrap.fill", "textwrap.TextWrapper.wrap", "textwrap.TextWrapper.fill"),
    ),
    ("meaning", "make a copy of an object and of all that it refers to", ("copy.deepcopy",)),
    ("meaning", "turn a text with a list or dict in it into the object safely", ("ast.literal_eval",)),
    (
        "words",
        "parse a query string given as a string argument",
        ("urllib.parse.parse_qs", "urllib.parse.parse_qsl"),
    ),
    ("words", "encode a dict into a URL query string", ("urllib.parse.urlencode",)),
    (
        "words",
        "construct a date from a string in ISO 8601 format",
        ("datetime.date.fromisoformat", "datetime.datetime.fromisoformat", "datetime.time.fromisoformat"),
    ),
    ("words", "number of days in a month", ("calendar.monthrange",)),
    ("words", "create a temporary directory", ("tempfile.mkdtemp", "tempfile.TemporaryDirectory")),
    ("words", "compare two sequences of lines and generate a unified diff", ("difflib.unified_diff",)),
    (
        "words",
        "extract all members from an archive",
        ("zipfile.ZipFile.extractall", "tarfile.TarFile.extractall", "shutil.unpack_archive"),
    ),
    ("words", "base64 encoding with a URL safe alphabet", ("base64.urlsafe_b64encode",)),
    ("words", "a context manager that changes the current working directory", ("contextlib.chdir",)),
    ("words", "callback when an object is garbage collected", ("weakref.finalize",)),
    ("words", "replace fields of a dataclass instance with new values", ("dataclasses.replace",)),
    ("words", "generate a UUID from a SHA-1 hash of a namespace and a name", ("uuid.uuid5",)),
    (
        "words",
        "run a command and wait for it to complete",
        ("subprocess.run", "subprocess.call", "subprocess.check_call"),
    ),
    ("words", "configure basic logging", ("logging.basicConfig",)),
    ("names", "urljoin", ("urllib.parse.urljoin",)),
    ("names", "functools.singledispatch", ("functools.singledispatch",)),
    ("names", "monthrange", ("calendar.monthrange",)),
    ("names", "timegm", ("calendar.timegm",)),
    ("names", "assert_called_once_with", ("unittest.mock.NonCallableMock.assert_called_once_with",)),
    (
        "names",
        "SequenceMatcher ratio",
        (
            "difflib.SequenceMatcher.ratio",
            "difflib.SequenceMatcher.quick_ratio",
            "difflib.SequenceMatcher.real_quick_ratio",
        ),
    ),
    ("names", "ExitStack", ("contextlib.ExitStack", "contextlib.AsyncExitStack")),
    ("names", "WeakValueDictionary", ("weakref.WeakValueDictionary",)),
    ("names", "iterparse xml", ("xml.etree.ElementTree.iterparse",)),
    ("names", "strptime format of a datetime", ("datetime.datetime.strptime",)),
    ("names", "csv.Sniffer", ("csv.Sniffer", "csv.Sniffer.sniff")),
    ("names", "runtime_checkable Protocol", ("typing.runtime_checkable", "typing.Protocol")),
    (
        "names",
        "RotatingFileHandler",
        (
            "logging.handlers.RotatingFileHandler.__init__",
            "logging.handlers.RotatingFileHandler",
            "logging.handlers.RotatingFileHandler.doRollover",
            "logging.handlers.RotatingFileHandler.shouldRollover",
        ),
    ),
    ("names", "create_autospec of a mock", ("unittest.mock.create_autospec",)),
    ("names", "b85decode", ("base64.b85decode",)),
    ("names", "compare_to of two tracemalloc snapshots", ("tracemalloc.Snapshot.compare_to",)),
]
