"""Does one task of web scraping: reads a page, or reports on those that were read.

    scrape.py http://127.0.0.1:8000

The site is the operator's choice. A task names a path on it only, so that nobody who hands a task in
can have this machine fetch what is not meant for them.
"""

import json
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.title, self.in_title = [], "", False

    def handle_starttag(self, tag, attrs):
        self.in_title = tag == "title"
        self.links += [value for name, value in attrs if (tag, name) == ("a", "href")]

    def handle_endtag(self, tag):
        self.in_title = False

    def handle_data(self, data):
        self.title += data if self.in_title else ""


def read(site, path):
    address = urljoin(site, path)
    if urlsplit(address)[:2] != urlsplit(site)[:2]:
        sys.exit(f"{path!r} is not a path of {site}")
    with urlopen(address, timeout=30) as answer:
        page = Page()
        page.feed(answer.read().decode())
    links = sorted({urlsplit(urljoin(address, link)).path for link in page.links})
    return {"path": path, "title": page.title, "links": links}


def report(pages):
    known = {page["path"] for page in pages}
    dead = {page["path"]: [link for link in page["links"] if link not in known] for page in pages}
    return {"pages": len(pages), "dead_links": {path: links for path, links in dead.items() if links}}


task = json.load(sys.stdin)
payload = task["payload"]
if payload["goal"] == "a page":
    result = read(sys.argv[1], payload["path"])
else:
    result = report(list(task["dependency_results"].values()))
json.dump(result, sys.stdout)
