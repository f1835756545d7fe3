"""Verdicts as JUnit XML, which most CI services show as tests."""

from xml.etree import ElementTree as ET

from bench.comparing.gate_document import describe
from bench.comparing.verdicts import CaseVerdict, Judgement, Key
from bench.text import plain


def junit(judgement: Judgement, title: str) -> bytes:
    """Return a test for each case: what makes the gate fail fails, what is n/a is skipped."""
    suite = ET.Element("testsuite", name=plain(title))
    for case in judgement.cases:
        test = _test(suite, case.key, case.head_seconds)
        told = plain(describe(case))
        if case.verdict == "REGRESSED":
            ET.SubElement(test, "failure", type="REGRESSED", message=told)
        elif case.verdict == "INCONCLUSIVE" and _fails(case, judgement):
            ET.SubElement(test, "error", type="INCONCLUSIVE", message=told)
        elif case.verdict == "INCONCLUSIVE":
            ET.SubElement(test, "skipped", type="INCONCLUSIVE", message=told)
        else:
            ET.SubElement(test, "system-out").text = f"{case.verdict}: {told}"
    for key, reason in sorted(judgement.missing.items()):
        ET.SubElement(_test(suite, key), "failure", type="missing", message=plain(reason))
    for key, reason in sorted(judgement.unjudged.items()):
        ET.SubElement(_test(suite, key), "skipped", type="n/a", message=plain(reason))
    if judgement.sentinels:
        control = _test(suite, ("bench", "A/A control"))
        if judgement.void:
            kind = "error" if judgement.settings.inconclusive == "fail" else "skipped"
            ET.SubElement(control, kind, type="void", message=plain(judgement.void))
    counts = {
        "tests": len(suite),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    for name, count in counts.items():
        suite.set(name, str(count))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _fails(case: CaseVerdict, judgement: Judgement) -> bool:
    return case.perhaps_slower and judgement.settings.inconclusive == "fail"


def _test(suite: ET.Element, key: Key, seconds: float | None = None) -> ET.Element:
    time = f"{seconds or 0.0:.9f}"
    return ET.SubElement(suite, "testcase", classname=plain(key[0]), name=plain(key[1]), time=time)
