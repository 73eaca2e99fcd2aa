"""Drives the simulator with the official client for Python, unchanged."""

import sys

from klaviyo_api import KlaviyoAPI

host = sys.argv[1]
klaviyo = KlaviyoAPI("pk_simulator", test_host=host, max_retries=1)


def profile(**attributes):
    return {"data": {"type": "profile", "attributes": attributes}}


def of(answer):
    """Answers are typed or plain, depending on the client's options."""
    return answer if isinstance(answer, dict) else answer.to_dict()


created = of(klaviyo.Profiles.create_profile(profile(email="python@shop.io", first_name="Python")))
profile_id = created["data"]["id"]

upserted = of(klaviyo.Profiles.create_or_update_profile(profile(email="python@shop.io", last_name="Client")))
assert upserted["data"]["id"] == profile_id

update = {"data": {"type": "profile", "id": profile_id, "attributes": {"title": "Dr"}}}
klaviyo.Profiles.update_profile(profile_id, update)

read = of(klaviyo.Profiles.get_profile(profile_id))["data"]["attributes"]
assert (read["first_name"], read["last_name"], read["title"]) == ("Python", "Client", "Dr"), read

for n in range(3):
    klaviyo.Profiles.create_or_update_profile(profile(email=f"python{n}@shop.io"))
first = of(klaviyo.Profiles.get_profiles(page_size=2))
assert len(first["data"]) == 2
second = of(klaviyo.Profiles.get_profiles(page_size=2, page_cursor=first["links"]["next"]))
assert second["data"] and second["data"][0]["id"] != first["data"][0]["id"]

found = of(klaviyo.Profiles.get_profiles(filter='equals(email,"python@shop.io")'))
assert [row["id"] for row in found["data"]] == [profile_id]

metric = {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}}


def event(number, **more):
    attributes = {"metric": metric, "properties": {"OrderId": number}, "value": 9.99, "unique_id": f"python-{number}"}
    return {"type": "event", "attributes": attributes | more}


klaviyo.Events.create_event({"data": event("1", profile=profile(email="python@shop.io"))})
group = {
    "type": "event-bulk-create",
    "attributes": {"profile": profile(email="python@shop.io"), "events": {"data": [event("2"), event("3")]}},
}
klaviyo.Events.bulk_create_events(
    {"data": {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": {"data": [group]}}}}
)

metrics = of(klaviyo.Metrics.get_metrics())["data"]
metric_id = next(row["id"] for row in metrics if row["attributes"]["name"] == "Placed Order")
events = of(klaviyo.Events.get_events(filter=f'equals(metric_id,"{metric_id}")'))["data"]
assert len(events) == 3, events

print("python client: all calls answered as expected")
