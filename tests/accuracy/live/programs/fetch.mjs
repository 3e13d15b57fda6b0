// Fetch URLs by a library of Node: fetch.mjs FOLDER LIBRARY in-turn|at-once URL...
import { createRequire } from "node:module";
import https from "node:https";
import http from "node:http";

const [folder, library, how, ...urls] = process.argv.slice(2);
const load = async (name) => await import(createRequire(folder + "/").resolve(name));

const get = {
  fetch: async () => (url) => fetch(url).then((response) => response.text()),
  https: async () => (url) =>
    new Promise((resolve, reject) => {
      const request = (url.startsWith("https") ? https : http).get(url, (response) => {
        response.resume().on("end", resolve);
      });
      request.on("error", reject);
    }),
  undici: async () => {
    const { request } = await load("undici");
    return (url) => request(url).then(({ body }) => body.text());
  },
  got: async () => {
    const { default: got } = await load("got");
    return (url) => got(url, { retry: { limit: 0 } });
  },
  axios: async () => {
    const { default: axios } = await load("axios");
    return (url) => axios.get(url);
  },
}[library];

const attempt = async (fetchOne, url) => {
  try {
    await fetchOne(url);
  } catch (error) {
    console.error(String(error.cause ?? error));
  }
};
const fetchOne = await get();
if (how === "in-turn") {
  for (const url of urls) await attempt(fetchOne, url);
} else {
  await Promise.all(urls.map((url) => attempt(fetchOne, url)));
}
process.exit(0);
