"""``python -m flyte_nb_kernel install``: register this environment's kernel. Runs in: the command line."""

from __future__ import annotations

import argparse
import sys

from flyte_nb_kernel import DISPLAY_NAME, NAME, install


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flyte_nb_kernel", description='The "Python 3 (Flyte)" kernel.')
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("install", help="register the kernel of this environment")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for this user (the default)")
    where.add_argument("--sys-prefix", action="store_true", help="in this environment")
    where.add_argument("--prefix", help="under PREFIX/share/jupyter/kernels")
    command.add_argument("--name", default=NAME, help="technical name (default: %(default)s)")
    command.add_argument("--display-name", default=DISPLAY_NAME, help="what the launcher shows (default: %(default)s)")
    options = parser.parse_args(arguments)

    prefix = sys.prefix if options.sys_prefix else options.prefix
    folder = install(prefix=prefix, name=options.name, display_name=options.display_name)
    print(f"Registered {options.display_name!r} as {options.name} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
