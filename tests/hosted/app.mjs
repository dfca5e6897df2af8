// An app on Pinecone's Node SDK, of whichever version; nothing in it knows of mrlstore.
// Run as `node app.mjs FOLDER INDEX`, where FOLDER has the SDK in node_modules, with PINECONE_CONTROLLER_HOST and
// PINECONE_API_KEY set. Prints one line for each check that holds; an exception is a failure.

import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, name] = process.argv.slice(2);
const load = createRequire(resolve(folder, "package.json"));
const { Pinecone } = load("@pinecone-database/pinecone");
const version = Number(load("@pinecone-database/pinecone/package.json").version.split(".")[0]);
const dim = 64;

let seed = 1;
const uniform = () => (seed = (seed * 48271) % 2147483647) / 2147483647 - 0.5;
const vectors = Array.from({ length: 30 }, () => Array.from({ length: dim }, uniform));

function check(what, holds) {
  if (!holds) throw new Error(`failed: ${what}`);
  console.log(`ok ${what}`);
}

async function raised(call) {
  try {
    await call();
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
  return "";
}

const client = new Pinecone();
const spec = { serverless: { cloud: "aws", region: "us-east-1" } };
const shape =
  version >= 9
    ? {
        name,
        deployment: { deploymentType: "managed", cloud: "aws", region: "us-east-1" },
        schema: { fields: { _values: { type: "dense_vector", dimension: dim, metric: "cosine" } } },
      }
    : { name, dimension: dim, metric: "cosine", spec };
await client.createIndex({ ...shape, waitUntilReady: true });
const listed = await client.listIndexes();
check("list", listed.indexes.some((index) => index.name === name));
const described = await client.describeIndex(name);
check("describe", described.host.endsWith(`/i/${name}`));
check("again", (await raised(() => client.createIndex(shape))).includes("exists already"));

const index = version >= 9 ? client.index({ name }) : client.index(name);
const rows = vectors.slice(0, 20).map((values, n) => ({
  id: `doc#${String(n).padStart(2, "0")}`,
  values,
  metadata: { year: 2000 + n, odd: n % 2 === 1, tags: ["t"] },
}));
const upsert = (target, records) => target.upsert(version >= 8 ? { records } : records);
await upsert(index, rows);
const space = index.namespace("ns/1 é");
await upsert(space, vectors.slice(20, 25).map((values, n) => ({ id: `x/${n} é`, values })));
const stats = await index.describeIndexStats();
check("stats", stats.totalRecordCount === 25 && stats.namespaces["ns/1 é"].recordCount === 5);

let answer = await index.query({ vector: vectors[3], topK: 3, includeMetadata: true, includeValues: true });
check("query", answer.matches[0].id === "doc#03" && answer.matches[0].metadata.year === 2003);
check("values", Math.abs(answer.matches[0].values[5] - vectors[3][5]) < 1e-2);
answer = await index.query({ vector: vectors[3], topK: 30, filter: { year: { $gte: 2010 }, odd: { $ne: true } } });
check("filter", answer.matches.length === 5);
check("query by id", (await index.query({ id: "doc#05", topK: 1 })).matches[0].id === "doc#05");
check("namespace", (await space.query({ vector: vectors[0], topK: 9 })).matches.length === 5);
const fetched = await index.fetch(version >= 8 ? { ids: ["doc#01", "absent"] } : ["doc#01", "absent"]);
check("fetch", Object.keys(fetched.records).join() === "doc#01");
const page = await index.listPaginated({ prefix: "doc#", limit: 7 });
const next = await index.listPaginated({ prefix: "doc#", limit: 7, paginationToken: page.pagination.next });
check("pages", page.vectors.length === 7 && next.vectors[0].id === "doc#07");

await index.update({ id: "doc#01", metadata: { year: 1990 } });
await index.update({ id: "doc#02", values: vectors[29] });
check("update values", (await index.query({ vector: vectors[29], topK: 1 })).matches[0].id === "doc#02");
await index.deleteOne(version >= 8 ? { id: "doc#00" } : "doc#00");
await index.deleteMany(version >= 8 ? { filter: { year: { $eq: 1990 } } } : { year: { $eq: 1990 } });
await space.deleteAll();
check("delete", (await index.describeIndexStats()).totalRecordCount === 18);

check("wrong length", (await raised(() => index.query({ vector: [1, 2, 3], topK: 1 }))).includes("dimension 64"));
check("absent", (await raised(() => client.describeIndex("absent"))).includes("NotFound"));
const controllerHostUrl = process.env.PINECONE_CONTROLLER_HOST;
const wrong = new Pinecone({ apiKey: "mrl_00000000_wrong", controllerHostUrl });
check("wrong key", (await raised(() => wrong.listIndexes())).includes("Authorization"));
await client.deleteIndex(name);
check("deleted", !(await client.listIndexes()).indexes.some((each) => each.name === name));
