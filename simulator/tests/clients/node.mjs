// Drives the simulator with the official client for Node, unchanged.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [, , basePath, modules] = process.argv;
const require = createRequire(modules + "/");
const { ApiKeySession, EventsApi, ListsApi, MetricsApi, ProfilesApi } = require("klaviyo-api");

const session = new ApiKeySession("pk_simulator");
const at = (api) => Object.assign(api, { basePath });
const profiles = at(new ProfilesApi(session));
const events = at(new EventsApi(session));
const metrics = at(new MetricsApi(session));
const lists = at(new ListsApi(session));

const created = await profiles.createProfile({
  data: { type: "profile", attributes: { email: "node@shop.io", firstName: "Node", properties: { plan_name: "pro" } } },
});
const id = created.body.data.id;
assert.equal(created.response.status, 201);

const upserted = await profiles.createOrUpdateProfile({
  data: { type: "profile", attributes: { email: "node@shop.io", lastName: "Client" } },
});
assert.equal(upserted.body.data.id, id);

await profiles.updateProfile(id, { data: { type: "profile", id, attributes: { title: "Dr" } } });

const read = (await profiles.getProfile(id)).body.data.attributes;
assert.equal(read.firstName, "Node");
assert.equal(read.lastName, "Client");
assert.equal(read.title, "Dr");
assert.equal(read.properties.plan_name, "pro");

const found = await profiles.getProfiles({ filter: 'equals(email,"node@shop.io")', pageSize: 1 });
assert.equal(found.body.data[0].id, id);

await assert.rejects(
  profiles.createProfile({ data: { type: "profile", attributes: { email: "node@shop.io" } } }),
  (error) => error.response.status === 409 && error.response.data.errors[0].meta.duplicate_profile_id === id,
);

const metric = { data: { type: "metric", attributes: { name: "Placed Order" } } };
const profile = { data: { type: "profile", attributes: { email: "node@shop.io" } } };
const single = await events.createEvent({
  data: {
    type: "event",
    attributes: { metric, profile, properties: { OrderId: "1" }, value: 9.99, uniqueId: "node-1", time: new Date() },
  },
});
assert.equal(single.response.status, 202);

const order = (n) => ({
  type: "event",
  attributes: { metric, properties: { OrderId: n }, value: 1, uniqueId: `node-${n}`, time: new Date() },
});
const bulk = await events.bulkCreateEvents({
  data: {
    type: "event-bulk-create-job",
    attributes: {
      eventsBulkCreate: {
        data: [{ type: "event-bulk-create", attributes: { profile, events: { data: [order("2"), order("3")] } } }],
      },
    },
  },
});
assert.equal(bulk.response.status, 202);

const metricId = (await metrics.getMetrics()).body.data.find((row) => row.attributes.name === "Placed Order").id;
const kept = await events.getEvents({ filter: `equals(metric_id,"${metricId}")` });
assert.equal(kept.body.data.length, 3);

const list = await lists.createList({ data: { type: "list", attributes: { name: "Node" } } });
await lists.addProfilesToList(list.body.data.id, { data: [{ type: "profile", id }] });
assert.equal((await lists.getProfilesForList(list.body.data.id)).body.data[0].id, id);

console.log("node client: all calls answered as expected");
