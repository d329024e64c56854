"""Whether a bill of materials keeps to the JSON schema of its version of CycloneDX: bom.py FILE"""
import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = pathlib.Path(sys.argv[1]).read_text()
version = SchemaVersion.from_version(json.loads(text)["specVersion"])
mistake = JsonStrictValidator(version).validate_str(text)
sys.exit(str(mistake) if mistake else 0)
