// Enqueues one job of each kind: npm install && node enqueue.mjs redis://127.0.0.1:6379
import { createClient } from "redis";

const redis = await createClient({ url: process.argv[2] ?? "redis://127.0.0.1:6379" }).connect();

async function enqueue(queue, kind, data, id) {
  // JSON.stringify leaves `id` out when it is undefined.
  const job = { kind, id, at: new Date().toISOString(), data };
  const entry = await redis.xAdd(`klaviyod:{default}:${queue}`, "*", { job: JSON.stringify(job) });
  console.log(entry);
}

const profile = { email: "ada@shop.io" };

await enqueue("event-tracking", "event.track", {
  metric: "Viewed Product",
  profile,
  properties: { SKU: "MUG", ProductName: "Mug" },
}, "view-mjs-1");

await enqueue("event-tracking", "order.placed", {
  order_id: "mjs-1001",
  profile,
  value: 19.98,
  value_currency: "EUR",
  items: [{ sku: "MUG", name: "Mug", quantity: 2, price: 9.99 }],
}, "order-mjs-1001");

// null clears a field, an absent one stays as it was.
await enqueue("profile-sync", "profile.upsert", { profile, attributes: { first_name: "Ada", title: null } });

await redis.close();
