"""``meshdns generate externalname``: Services for names of the mesh; with ``--lint``, a judgement of existing ones."""

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshdns.cli.instance import configuration, snapshot
from meshdns.cli.lint_report import FORMATS, Report, summary
from meshdns.cli.main import FINDINGS, OK, USAGE
from meshdns.cli.manifest_files import STANDARD_INPUT, manifest_paths, read_manifest, write_text
from meshdns.cli.text import one_line
from meshdns.config import Config
from meshdns.errors import ConfigError, Fault, StoreError
from meshdns.kubernetes.externalname import Generated, Options, choose, generate
from meshdns.kubernetes.lint import Corrected, fix, lint
from meshdns.kubernetes.manifest_nodes import ManifestFile
from meshdns.kubernetes.manifest_text import to_json, to_yaml
from meshdns.kubernetes.served import Served, why_no_external_name
from meshdns.kubernetes.service_name import MAX_LABEL, is_service_name
from meshdns.store.collector import collector_paused
from meshdns.xds.settings import KumaSettings

MAX_SUFFIX = 40
"""Octets of a suffix, so that a name has room for what tells it from others."""

_SUFFIX = re.compile(r"[-a-z0-9]*[a-z0-9]\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
# A path of an HTTPRoute must begin with a slash and be in its shortest form; an Ingress takes more.
_PATH = re.compile(r"/(?!.*//)(?!.*/\.{1,2}(?:/|\Z))[^\s#?%]*\Z")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the part takes."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME|PATTERN",
        help="which names ('echo*'); without any, every service under the zones once, by its dotted spelling. "
        "With --lint: files, directories, - for standard input",
    )
    writing = parser.add_argument_group("Services")
    writing.add_argument("--namespace", metavar="NS", help="of every manifest; with --lint, of those that name none")
    # Not in the group: its text begins with a hyphen, which the parser has to know.
    parser.add_argument(
        "--suffix", default="", metavar="-multizone", help="the end of every Service's name, so that it is no other's"
    )
    writing.add_argument("--name", metavar="NAME", help="the name of the one Service")
    writing.add_argument("--ingress", metavar="CLASS", help="an Ingress of this class to each Service")
    writing.add_argument("--httproute", metavar="[NS/]GATEWAY", help="an HTTPRoute of this Gateway to each Service")
    writing.add_argument("--path", metavar="/PATH", help="of the route (default: / and the Service's name)")
    writing.add_argument("--route-name", metavar="NAME", help="of the Ingress or HTTPRoute (default: the Service's)")
    writing.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="default: yaml")
    writing.add_argument("--output-dir", type=Path, metavar="DIR", help="one file a Service in DIR; none is removed")
    writing.add_argument("--strict", action="store_true", help="exit 1 when a name cannot be a Service")
    linting = parser.add_argument_group("linting")
    linting.add_argument("--lint", action="store_true", help="judge manifests by what is served")
    linting.add_argument("--fix", action="store_true", help="correct in the files what is beyond doubt; implies --lint")
    linting.add_argument("--format", choices=list(FORMATS), default="text", help="of findings (default: text)")


def run(arguments: argparse.Namespace) -> int:
    """Write Services, or lint; raises ConfigError."""
    if arguments.lint or arguments.fix:
        return _lint(arguments)
    config = configuration(arguments)
    options = _options(arguments, config)
    with _served(config) as served, collector_paused():
        choice = choose(served, arguments.names)
        _check_count(arguments, len(choice.records))
        generated = generate(served, choice.records, options)
        late = served.undelivered()
        _write(arguments, generated)
    for line in (*choice.unknown, *choice.skipped, *generated.missing):
        _say(line)
    for line in generated.notes:
        _say(f"note: {line}")
    for source in late:
        _say(f"source {source} has never delivered: its names are not among these")
    if not choice.records and not choice.unknown:
        _say(f"no service is known under {', '.join(config.zones)}")
    incomplete = choice.skipped or generated.missing or late or not choice.records
    return FINDINGS if choice.unknown or (arguments.strict and incomplete) else OK


@contextmanager
def _served(config: Config) -> Iterator[Served]:
    sources = [source.name for source in config.sources] or None
    with snapshot(config) as seen:
        yield Served(seen, config.rules(), sources)


def _options(arguments: argparse.Namespace, config: Config) -> Options:
    """Give what was chosen; raises ConfigError for what Kubernetes would refuse."""
    faults = []
    gateway_namespace, _, gateway = (arguments.httproute or "").rpartition("/")
    for option, value, right, rule in (
        ("--namespace", arguments.namespace, _is_namespace, f"a label of at most {MAX_LABEL} octets"),
        ("--name", arguments.name, is_service_name, f"a label of at most {MAX_LABEL} octets that begins with a letter"),
        ("--suffix", arguments.suffix or None, _is_suffix, f"lower case, at most {MAX_SUFFIX} octets"),
        ("--ingress", arguments.ingress, _is_object_name, "the name of an IngressClass"),
        ("--httproute", gateway if arguments.httproute is not None else None, _is_object_name, "the name of a Gateway"),
        ("--httproute", gateway_namespace or None, _is_namespace, "NAMESPACE/GATEWAY"),
        ("--route-name", arguments.route_name, _is_object_name, "the name of an Ingress or HTTPRoute"),
        ("--path", arguments.path, _is_path, "a path such as /bar"),
    ):
        if value is not None and not right(value):
            faults.append(Fault(option, f"{value!r} is not {rule}"))
    if arguments.name and arguments.suffix:
        faults.append(Fault("--suffix", "is not for a Service whose whole name --name says"))
    for option, value in (("--path", arguments.path), ("--route-name", arguments.route_name)):
        if value is not None and not arguments.ingress and not arguments.httproute:
            faults.append(Fault(option, "needs --ingress or --httproute"))
    if faults:
        raise ConfigError("generate externalname", tuple(faults))
    return Options(
        namespace=arguments.namespace,
        suffix=arguments.suffix,
        name=arguments.name,
        ingress=arguments.ingress,
        gateway=arguments.httproute,
        path=arguments.path,
        route_name=arguments.route_name,
        meshes={source.name: source.mesh for source in config.sources if isinstance(source, KumaSettings)},
    )


def _is_namespace(text: str) -> bool:
    return len(text) <= MAX_LABEL and _NAMESPACE.match(text) is not None


def _is_suffix(text: str) -> bool:
    return len(text) <= MAX_SUFFIX and _SUFFIX.match(text) is not None


def _is_object_name(text: str) -> bool:
    return why_no_external_name(text) is None


def _is_path(text: str) -> bool:
    return _PATH.match(text) is not None


def _check_count(arguments: argparse.Namespace, count: int) -> None:
    """Raise ConfigError where what is for one Service is given for several."""
    faults = [
        Fault(option, f"is for one Service, and these are {count}")
        for option, value in (
            ("--name", arguments.name),
            ("--path", arguments.path),
            ("--route-name", arguments.route_name),
        )
        if value is not None and count > 1
    ]
    if faults:
        raise ConfigError("generate externalname", tuple(faults))


def _write(arguments: argparse.Namespace, generated: Generated) -> None:
    text = to_json if arguments.output == "json" else to_yaml
    directory: Path | None = arguments.output_dir
    if directory is None:
        if generated.services:
            sys.stdout.write(text(manifest for service in generated.services for manifest in service.manifests))
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(str(directory), (Fault("", f"cannot be made: {error.strerror or error}"),)) from None
    written = sum(
        write_text(directory / f"{service.name}.{arguments.output}", text(service.manifests))
        for service in generated.services
    )
    same = len(generated.services) - written
    _say(f"{directory}: {written} files written, {same} were the same already")


def _lint(arguments: argparse.Namespace) -> int:
    """Lint, and correct with ``--fix``; what is unusable does not keep the rest from being judged."""
    if not arguments.names:
        raise ConfigError("generate externalname --lint", (Fault("", "needs files, directories, or - for its input"),))
    namespace = arguments.namespace or "default"
    files: list[ManifestFile] = []
    unusable: list[ConfigError] = []
    for path in manifest_paths(arguments.names):
        try:
            files.append(read_manifest(path))
        except ConfigError as error:
            unusable.append(error)
    try:
        with _served(configuration(arguments)) as served:
            if arguments.fix:
                corrected = fix(files, served, namespace=namespace)
            else:
                corrected = Corrected(tuple(files), (), lint(files, served, namespace=namespace))
    except StoreError as error:  # nothing can be judged; 1 would mean that something was found
        _say(f"meshdns: {error}")
        return USAGE
    printed = sys.stdout
    for before, after in zip(files, corrected.files, strict=True):
        if arguments.fix and before.path == STANDARD_INPUT:
            sys.stdout.write(after.text)
            printed = sys.stderr
        elif after.text != before.text:
            write_text(Path(before.path), after.text)
    left = corrected.left
    report = Report(len(files), left.findings, corrected.fixed, (*unusable, *left.unusable))
    FORMATS[arguments.format](report, printed)
    _say(summary(report))
    if report.unusable:
        return USAGE
    return FINDINGS if report.left else OK


def _say(line: str) -> None:
    print(one_line(line, 1_000), file=sys.stderr)
