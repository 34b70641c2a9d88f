"""Settings: luigi.cfg sections and flags, checked, with errors that say which, what, whence, and what is allowed."""

import configparser
import contextlib
import copy
import datetime
import difflib
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config
from luigi.task_register import Register

from millrace.common import secrets
from millrace.core import keys
from millrace.core.keys import Key
from millrace.errors import MillraceError, SettingError

#: Sections of luigi's own that luigi.cfg has.
_LUIGIS = {"core", "worker", "scheduler", "retcode", "email", "smtp"}


C = TypeVar("C", bound=Callable[[str], Any])


class Setting(luigi.Parameter):
    """A setting or flag.

    convert: its text → its value; raises ValueError (or a MillraceError) for what is not allowed. allowed: what is
    allowed, in words; those of the converter unless given (see saying). keeps_variables: whether convert, and not
    luigi, fills in ${NAME} in luigi.cfg. batched: whether tasks that differ in this parameter may be done in one batch.
    """

    def __init__(
        self,
        convert: Callable[[str], Any],
        allowed: str = "",
        description: str = "",
        *,
        keeps_variables: bool = False,
        batched: bool = False,
        **kwargs: Any,
    ) -> None:
        # luigi hands the description to argparse, which takes a single % for a field.
        super().__init__(description=description.replace("%", "%%"), **kwargs)
        self._convert, self._allowed = convert, allowed or getattr(convert, "allowed", "something else")
        self._keeps_variables = keeps_variables
        self.batched = batched
        self._owner = self._key = ""

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return self._allowed

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)  # type: ignore[no-untyped-call]
        self._owner, self._key = owner.__name__, name

    def parse(self, x: str) -> Any:
        """Return the value of a text. Raises SettingError."""
        try:
            return self._convert(x.strip())
        except (ValueError, KeyError, MillraceError) as error:
            reason = f" ({error})" if isinstance(error, MillraceError) else ""
            where = origin(self._owner, self._key)
            raise SettingError(
                f"{self._owner}.{self._key} = {secrets.redacted(x)!r}, {where}: allowed is {self._allowed}{reason}"
            ) from None

    def _get_value_from_config(self, section: str, name: str) -> Any:
        """Return luigi's value from luigi.cfg, its variables left for convert where they are kept."""
        config = get_config()
        if self._keeps_variables and isinstance(config, configparser.ConfigParser) and config.has_option(section, name):
            text = config.get(section, name, raw=True)
            with contextlib.suppress(configparser.InterpolationError):
                others = dict(config.items(section, raw=True))
                text = configparser.BasicInterpolation().before_get(config, section, name, text, others)
            return self.parse(text)
        return super()._get_value_from_config(section, name)  # type: ignore[no-untyped-call]

    def normalize(self, x: Any) -> Any:
        """Return a value, and hold one that is given in Python to the same rules as one given in text."""
        return self.parse(x) if isinstance(x, str) else x

    def serialize(self, x: Any) -> str:
        return "" if x is None else str(x)


_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _flag(value: str) -> bool:
    """Return true or false."""
    return _FLAGS[value.lower()]


class Flag(Setting):
    """A setting that is true or false; as a flag it needs no value to be true."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(_flag, "true or false", **kwargs)

    @classmethod
    def _parser_kwargs(cls, param_name: str, task_name: str | None = None) -> dict[str, Any]:
        given: dict[str, Any] = super()._parser_kwargs(param_name, task_name)  # type: ignore[no-untyped-call]

        def checked(value: str) -> str:
            if value.lower() not in _FLAGS:  # most likely the task's name
                flag = f"--{param_name.replace('_', '-')}"
                allowed = f"allowed is true or false, or nothing; write {flag}=true, or {flag} as the last flag"
                raise SettingError(f"{flag} {value}: {allowed}")
            return value

        return {**given, "nargs": "?", "const": "true", "type": checked}


def origin(section: str, key: str) -> str:
    """Return where a setting was read, in words."""
    names = [f"{section}-{key}", *([] if section in _sections() else [key])]
    flags = [f"--{name}".replace("_", "-") for name in names]
    for argument in sys.argv[1:] if in_luigi_command() or CmdlineParser.get_instance() else ():
        flag = argument.split("=", 1)[0]
        # argparse takes the beginning of a flag for the flag where no other begins so.
        if len(flag) > 2 and any(full.startswith(flag) for full in flags):
            return f"from the flag {flag}"
    for path in _config_files():
        own = configparser.RawConfigParser()
        try:
            own.read(path)
        except configparser.Error:
            continue
        if any(own.has_option(section, name) for name in (key, key.replace("_", "-"))):
            return f"read in {path}"
    return "the default"


def take_over(cls: type) -> None:
    """Make the settings that a section or task inherits its own, so that errors name it and not what it builds on."""
    for name in {name for base in cls.__mro__[1:] for name, each in vars(base).items() if isinstance(each, Setting)}:
        inherited = inspect.getattr_static(cls, name)
        if isinstance(inherited, Setting) and name not in vars(cls):
            setattr(cls, name, copy.copy(inherited))
            vars(cls)[name].__set_name__(cls, name)


def in_luigi_command() -> bool:
    """Return whether this process is the `luigi` command, whose arguments set what settings don't."""
    return "luigi.cmdline" in sys.modules


def workers() -> int:
    """Return how many tasks luigi runs side by side, each in a process of its own if more than one."""
    return int(luigi.interface.core().workers) if in_luigi_command() else 1


def _config_files() -> list[str]:
    paths = [str(path) for path in getattr(get_config(), "_config_paths", [])]
    return [os.path.abspath(path) for path in reversed(paths) if os.path.isfile(path)]


class Settings(luigi.Config):
    """A section of luigi.cfg, named like the class. A key that it does not know is an error, unless it is open."""

    #: Whether further keys are left for somebody else to know.
    open_keys: ClassVar[bool] = False
    #: Keys that were settings once: key → what took its place.
    gone: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A strftime field needs no doubled % signs here, as configparser would have it.
        super().__init_subclass__(**kwargs)
        take_over(cls)
        config, section = get_config(), cls.__name__
        for key in config.options(section) if config.has_section(section) else ():
            try:
                config.get(section, key)
            except configparser.InterpolationError:
                config.set(section, key, config.get(section, key, raw=True).replace("%", "%%"))

    @classmethod
    @functools.cache
    def get_params(cls) -> Any:
        """Return luigi's parameters, kept, because luigi looks through the class each time that a section is read."""
        return super().get_params()  # type: ignore[no-untyped-call]

    @classmethod
    def get_param_values(cls, *args: Any) -> Any:
        """Return luigi's values; raise our own error instead of one that wraps it.

        A section's values are looked up once a command, because its flags and files stay; luigi would look for each
        task.
        """
        command = CmdlineParser.get_instance()
        known = vars(command).setdefault("_sections", {}) if command and not any(args[1:]) else {}
        try:
            if cls not in known:
                known[cls] = super().get_param_values(*args)  # type: ignore[no-untyped-call]
            return known[cls]
        except ValueError as error:
            if isinstance(error.__cause__, MillraceError):
                raise error.__cause__ from None
            if isinstance(error.__cause__, configparser.InterpolationError):
                raise not_filled_in(error.__cause__) from None
            raise

    @classmethod
    def default(cls, key: str) -> Any:
        """Return the value of a key that nobody sets."""
        return dict(cls.get_params())[key]._default

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        _check_sections()
        section = type(self).__name__
        known = set(type(self).get_param_names(include_significant=True))  # type: ignore[no-untyped-call]
        for path in () if self.open_keys else _config_files():
            own = configparser.RawConfigParser()
            own.read(path)
            for key in own.options(section) if own.has_section(section) else ():
                name = key.replace("-", "_")
                if name in self.gone:
                    raise SettingError(f"{section}.{key}, read in {path}, is no setting any more: {self.gone[name]}")
                if name not in known and key not in own.defaults():
                    near = difflib.get_close_matches(name, known, 1)
                    raise SettingError(
                        f"{section}.{key}, read in {path}, is no setting; "
                        + (f"did you mean {near[0]}?" if near else f"allowed are {', '.join(sorted(known))}")
                    )


def not_filled_in(error: configparser.InterpolationError) -> SettingError:
    """Return the error for a value whose variables can't be filled in."""
    where = f"{error.section}.{error.option}, {origin(error.section, error.option)}"
    missing = re.search(r"nonexisting environment variable (.*?)\. Section", str(error))
    if missing:
        return SettingError(f"{where}: the environment has no variable {missing[1]}; set it, or write the value itself")
    return SettingError(f"{where}: what begins with % can't be filled in; write %% for %")


def _check_sections() -> None:
    """Raise SettingError for a section of luigi.cfg that is nearly one of ours, because nobody would read it."""
    ours = {section.__name__ for section in Settings.__subclasses__()} | _LUIGIS
    of_tasks = {section.__name__ for section in Settings.__subclasses__() if section.open_keys}
    others = set(Register.task_names())
    for path in _config_files():
        own = configparser.RawConfigParser()
        own.read(path)
        for name in own.sections():
            section, dot, task = name.partition(".")
            if name in others:
                continue
            if section in ours:
                if dot and section not in of_tasks:
                    raise SettingError(f"[{name}], read in {path}, is no section; did you mean [{section}]?")
                continue
            lower = {each.lower(): each for each in ours}
            for near in difflib.get_close_matches(section.lower(), lower, 1, 0.86):
                raise SettingError(f"[{name}], read in {path}, is no section; did you mean [{lower[near]}{dot}{task}]?")


def _sections() -> set[str]:
    """Return the names of the sections; their flags begin with them, a task's own need not."""
    return {
        section.__name__ for section in Settings.__subclasses__() if section.__dict__.get("use_cmdline_section", True)
    }


def text(value: str) -> str:
    """Return any text but an empty one."""
    if not value:
        raise ValueError
    return value


def saying(allowed: str, convert: C) -> C:
    """Return a converter that says in words what it allows, so that a setting with it need not."""
    vars(convert)["allowed"] = allowed
    return convert


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return what takes a whole number from low to high."""

    def convert(value: str) -> int:
        number = int(value.replace("_", ""))
        if not low <= number <= high:
            raise ValueError
        return number

    return saying(f"a whole number from {low} to {high}", convert)


def number(low: float, high: float) -> Callable[[str], float]:
    """Return what takes a number from low to high."""

    def convert(value: str) -> float:
        found = float(value)
        if not low <= found <= high:
            raise ValueError
        return found

    return saying(f"a number from {low:g} to {high:g}", convert)


def share(value: str) -> float:
    """Return a number from 0 to 1."""
    return number(0, 1)(value)


saying("a number from 0 to 1", share)


def one_of(*names: str) -> Callable[[str], str]:
    """Return what takes one of some names."""

    def convert(value: str) -> str:
        if value not in names:
            raise ValueError
        return value

    return saying(f"one of {', '.join(names)}" if len(names) != 2 else " or ".join(names), convert)


def day(value: str) -> datetime.date:
    """Return the day that YYYY-MM-DD names."""
    if len(value) != 10:
        raise ValueError
    return datetime.date.fromisoformat(value)


def yesterday() -> datetime.date:
    """Return the last whole UTC day."""
    return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)


class KeyParameter(Setting):
    """A parameter that says which partition a task makes."""

    def narrowed(self, key: Key, value: Any) -> Key:
        """Return the key of a task, given what other parameters have said of it and this one's value."""
        raise NotImplementedError

    def _check_year(self, value: datetime.date, what: str) -> None:
        """Raise SettingError for a day, or an hour, at the calendar's ends; what: which of them."""
        if not _YEARS[0] <= value.year <= _YEARS[1]:
            raise SettingError(
                f"{self._owner}.{self._key} = {value}, {origin(self._owner, self._key)}: allowed is {what} in the "
                f"years {_YEARS[0]} to {_YEARS[1]}"
            )


#: The first and the last year of days: four digits, and windows on both sides are days too.
_YEARS = (1000, 9998)


class Day(KeyParameter):
    """A day as a task's parameter; the last whole UTC day unless given."""

    def __init__(self, **kwargs: Any) -> None:
        described = "a day as YYYY-MM-DD; the last whole UTC day unless given"
        super().__init__(
            day, "a day as YYYY-MM-DD", **{"default": None, "description": described, "batched": True, **kwargs}
        )

    def normalize(self, x: Any) -> Any:
        """Return a day; midnight in UTC is one.

        Raises SettingError for other times, and for days at the calendar's ends.
        """
        if x is None:
            return yesterday()
        value = super().normalize(x)
        if isinstance(value, datetime.datetime) and value.time() == datetime.time() and not value.utcoffset():
            value = value.date()
        if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
            raise SettingError(
                f"{self._owner}.{self._key} = {value}: allowed is a day; {self._owner} is made by the day, so that of "
                "luigi's ranges RangeDaily fits"
            )
        self._check_year(value, "a day")
        return value

    def next_in_enumeration(self, value: datetime.date) -> datetime.date:
        return value + datetime.timedelta(days=1)

    def narrowed(self, key: Key, value: datetime.date) -> Key:
        return replace(keys.day(value), suffix=key.suffix)


def last_hour() -> datetime.datetime:
    """Return the start of the last whole hour (UTC), without a zone."""
    now = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    return now - datetime.timedelta(hours=1)


def _hour(value: str) -> datetime.datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d", value):
        raise ValueError
    return datetime.datetime.fromisoformat(f"{value}:00")


class Hour(KeyParameter):
    """An hour as a task's parameter: its start in UTC, without a zone; the last whole hour unless given."""

    def __init__(self, **kwargs: Any) -> None:
        described = "an hour (UTC) as YYYY-MM-DDTHH; the last whole one unless given"
        usual = {"default": None, "description": described, "batched": True}
        super().__init__(_hour, "an hour as YYYY-MM-DDTHH", **{**usual, **kwargs})

    def normalize(self, x: Any) -> datetime.datetime:
        """Return an hour's start. Raises SettingError for other times, and for hours at the calendar's ends."""
        if x is None:
            return last_hour()
        value = super().normalize(x)
        if isinstance(value, datetime.datetime) and value.tzinfo:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        if not isinstance(value, datetime.datetime) or value != value.replace(minute=0, second=0, microsecond=0):
            raise SettingError(f"{self._owner}.{self._key} = {value}: allowed is an hour's start, in UTC")
        self._check_year(value, "an hour")
        return value

    def serialize(self, x: datetime.datetime) -> str:
        return f"{x:%Y-%m-%dT%H}"

    def next_in_enumeration(self, value: datetime.datetime) -> datetime.datetime:
        return value + datetime.timedelta(hours=1)

    def narrowed(self, key: Key, value: datetime.datetime) -> Key:
        return replace(keys.hour(value), suffix=key.suffix)


class Days(KeyParameter):
    """A window's length in days as a task's parameter, beside the Day that it ends with; a setting's unless given.

    A window of the length that the setting says has partitions called by the day, one of another length has datasets
    and tables of its own: word_counts_30d beside word_counts. section: whose key `days` is the setting.
    """

    def __init__(self, section: "type[Settings]", key: str = "days") -> None:
        self._section, self._setting = section, key
        setting: Setting = getattr(section, key)
        described = f"days of the window; [{section.__name__}] {key} unless given"
        super().__init__(setting._convert, setting._allowed, described, default=None)

    def normalize(self, x: Any) -> int:
        return int(self._usual() if x is None else super().normalize(x))

    def narrowed(self, key: Key, value: int) -> Key:
        return replace(key, suffix=keys.length(value, self._usual()))

    def _usual(self) -> int:
        return int(getattr(self._section(), self._setting))
