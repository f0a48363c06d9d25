"""Does one task of data processing: counts the words of a part, or adds the counts of all parts."""

import json
import sys
from collections import Counter

task = json.load(sys.stdin)
payload = task["payload"]
if payload["goal"] == "a count":
    result = Counter(payload["text"].split())
else:
    result = sum((Counter(counts) for counts in task["dependency_results"].values()), Counter())
json.dump(result, sys.stdout)
