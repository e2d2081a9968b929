// Print what is on the alerts topic, with the CloudEvents SDK: npm ci; node consume.mjs [SERVERS [TOPIC [GROUP]]]; Ctrl-C ends it.
// The TimeoutNegativeWarning that kafkajs 2.2.4 brings up on newer versions of Node.js is harmless.

import { Kafka as KafkaBinding } from "cloudevents";
import { Kafka, logLevel } from "kafkajs";

const [servers = "localhost:9092", topic = "alerts", groupId = "alerts-example"] = process.argv.slice(2);

// The SDK wants text where kafkajs gives bytes.
function toEvent({ headers, key, value }) {
  const text = Object.fromEntries(Object.entries(headers).map(([name, bytes]) => [name, bytes.toString()]));
  return KafkaBinding.toEvent({ headers: text, key: key?.toString(), value });
}

// What is told of runs of alerts, of which only the first is published.
const states = { raised: "has begun", grown: "goes on", cleared: "is over" };
const words = {
  "quarterturn.alert.v1": (data) => {
    const why = data.reason ?? `score ${data.score.toFixed(2)} above ${data.threshold.toFixed(2)}`;
    return ` ${data.partId ?? "a part without a name"}: ${data.alert}, ${why}`;
  },
  "quarterturn.episode.v1": (data) =>
    `: a run ${states[data.state]}, ${data.count} x ${data.kind} since ${data.since.time}`,
  "quarterturn.drift.v1": (data) => `: ${data.reason} (drift ${data.state}, since ${data.since.time})`,
};

// Of events that came after this program was written.
const other = (data) => `: ${data.state ?? "something"}`;

// What is to be done about an event. After a fault it may come again, with the same `id`.
function handle({ id, type, data }) {
  console.log(`${data.camera}${(words[type] ?? other)(data)} (${id})`);
}

const kafka = new Kafka({ clientId: "alerts-example", brokers: servers.split(","), logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId, readUncommitted: false }); // else alerts that were taken back are seen, too
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => consumer.disconnect());

await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
await consumer.run({ eachMessage: async ({ message }) => handle(toEvent(message)) });
