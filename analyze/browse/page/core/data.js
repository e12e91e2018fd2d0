"use strict";
/**
 * The data files of the site. Each is a script that calls `sparcData(name, value)`, for a page of
 * file:// may neither fetch nor import; columns of numbers are base64 of little-endian arrays.
 */
/** What a person asked for is not there: its message is for them; any other error is a fault of the page. */
Page.Missing = class extends Error {};

Page.data = (() => {
  const KEPT = 24; // files of details that stay in memory
  const arrived = new Map();
  const loading = new Map();
  const recent = [];

  window.sparcData = (name, value) => arrived.set(name, value);

  /** Load `data/FILE.js` once. @returns {Promise<object>} what it handed to sparcData under `name` */
  function load(name, file = name) {
    if (arrived.has(name)) return Promise.resolve(arrived.get(name));
    if (loading.has(name)) return loading.get(name);
    const promise = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const fail = () =>
        reject(
          new Page.Missing(
            `data/${file}.js is missing or damaged: copy the whole folder of the site, or make it again`,
          ),
        );
      script.src = `data/${file}.js`;
      script.onload = () => (arrived.has(name) ? resolve(arrived.get(name)) : fail());
      script.onerror = fail;
      document.head.append(script);
    }).finally(() => {
      loading.delete(name);
      document.head.querySelector(`script[src="data/${file}.js"]`)?.remove();
    });
    loading.set(name, promise);
    return promise;
  }

  /** The details of a latent, or null where there are none (it is dead). */
  async function detail(latent) {
    const number = Math.floor(latent / index().details.latents_per_file);
    const name = `latents/${number}`;
    const file = await load(name, `latents/${String(number).padStart(4, "0")}`);
    if (recent.includes(name)) recent.splice(recent.indexOf(name), 1);
    recent.push(name);
    if (recent.length > KEPT) arrived.delete(recent.shift());
    return file.latents[latent] ?? null;
  }

  const index = () => arrived.get("index");

  function bytes(text) {
    const raw = atob(text);
    const result = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) result[i] = raw.charCodeAt(i);
    return result;
  }

  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * 2 ** -24 * fraction;
    if (exponent === 31) return NaN;
    return sign * 2 ** (exponent - 25) * (1024 + fraction);
  }

  const READERS = {
    f4: (raw) => new Float32Array(raw),
    f2: (raw) => Float32Array.from(new Uint16Array(raw), half),
    u1: (raw) => new Uint8Array(raw),
    u2: (raw) => new Uint16Array(raw),
    u4: (raw) => new Uint32Array(raw),
    i4: (raw) => Float32Array.from(new Int32Array(raw), (value) => (value === -1 ? NaN : value)),
    flag: (raw) => new Uint8Array(raw),
  };

  /** Numbers of an encoded column; what is not defined is NaN. */
  function numbers(column) {
    return READERS[column.type](bytes(column.data).buffer);
  }

  return { load, detail, index, numbers, bytes };
})();
