"""Walks through what apisix-client (PyPI) offers, against a running Admin API.

client.py ADMIN_URL KEY, where ADMIN_URL ends in a slash. Ends with 0 when every answer is what the
library and its users rely on.
"""

import sys
from datetime import datetime, timedelta

from apisix_client import ApisixClient
from apisix_client.consumer.models import Consumer
from apisix_client.plugin.models.authentication import KeyAuth, KeyAuthSettings
from apisix_client.route.models import Route
from apisix_client.service.models import Service
from apisix_client.upstream.models import Node, Upstream

url, key = sys.argv[1:]
client = ApisixClient(base_url=url, api_key=key)
# There is no parameter for it, and five seconds may pass on a busy machine.
client._httpx_client.timeout = 60


def upstream(port):
    return Upstream(name="u", nodes=[Node(host="127.0.0.1", port=port, weight=1)], scheme="http")


def walk(collection, first, second, changed):
    """Creates, changes, reads, counts, pages and deletes."""
    made = collection.create_with_id_generation(first)
    assert made, "created under an id of the store's choice"
    assert collection.create_or_update(second, "named") == "named"
    assert collection.count() == 2
    got = collection.get(made)
    assert got.value.id == made and got.key.endswith("/" + made), got
    assert got.modified_index >= got.created_index > 0, got
    assert datetime.now() - got.value.create_time < timedelta(minutes=5), got

    before = collection.get("named")
    assert collection.create_or_update(changed, "named") == "named"
    after = collection.get("named")
    assert after.created_index == before.created_index, after
    assert after.modified_index > before.modified_index, after
    assert after.value.create_time == before.value.create_time, after

    assert {one.value.id for one in collection.get_all()} == {made, "named"}
    assert len(collection.get_all(pagging=(1, 10))) == 2
    assert collection.get_all(pagging=(2, 10)) == ()
    assert collection.get("missing") is None
    assert not collection.delete("missing")
    assert collection.delete(made)
    assert collection.count() == 1
    return after


got = walk(client.upstream, upstream(1), upstream(2), upstream(3))
assert got.value.nodes[0].port == 3, got

got = walk(
    client.service,
    Service(name="s", upstream_id="named"),
    Service(name="s", upstream=upstream(1)),
    Service(name="t", upstream_id="named", hosts=["a.com"]),
)
assert (got.value.name, got.value.upstream_id, got.value.hosts) == ("t", "named", ["a.com"]), got

got = walk(
    client.route,
    Route(uri="/a", service_id="named", methods=["GET"]),
    Route(uris=["/b", "/c"], upstream_id="named"),
    Route(uri="/d", upstream_id="named", vars=[["arg_x", "==", "1"]], priority=7),
)
assert (got.value.uri, got.value.priority) == ("/d", 7), got

# The library writes plugins and cannot read them.
guarded = Route(uri="/e", upstream_id="named", plugins=[KeyAuthSettings()])
assert client.route.create_or_update(guarded, "guarded") == "guarded"
assert client.route.delete("guarded")
assert client.consumer.create_or_update(Consumer(username="jack", plugins=[KeyAuth(key="k1")]))
assert client.consumer.create_or_update(Consumer(username="jack"))
assert client.consumer.get("jack").value.username == "jack"
assert client.consumer.get("rose") is None
assert client.consumer.count() == 1 and len(client.consumer.get_all()) == 1

# What is wrong, and what is in use, is refused.
assert client.route.create_or_update(Route(uri="/", upstream_id="missing"), "bad") is None
assert not client.consumer.create_or_update(Consumer(username="not a name"))
assert client.route.get("bad") is None
assert client.upstream._httpx_client.delete("/upstreams/named").status_code == 400

assert "key-auth" in client.plugin.get_available()
assert client.plugin.reload()

# In the order in which nothing is left that is referred to.
assert client.route.delete("named") and client.service.delete("named")
assert client.upstream.delete("named") and client.consumer.delete("jack")
