"use strict";
/** Bookmarks and notes of this site, and the theme: in the browser's storage, else in memory. */
Page.keep = (() => {
  const memory = new Map();
  let last = { text: null, entries: null }; // rows ask one by one: notes are read once for each text
  const key = () => `sparc:${Page.data.index().title}:${Page.data.index().report.run ?? ""}`;

  function read(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return memory.get(name) ?? null;
    }
  }

  function write(name, value) {
    memory.set(name, value);
    try {
      localStorage.setItem(name, value);
      return true;
    } catch {
      return false; // some browsers keep nothing for a page of file://
    }
  }

  /** @returns {Map<number, {marked: boolean, note: string}>} by latent, not to be changed */
  function notes() {
    const text = read(key()) ?? "{}";
    if (last.text !== text) last = { text, entries: parsed(text) };
    return last.entries;
  }

  function parsed(text) {
    try {
      return valid(JSON.parse(text));
    } catch {
      return new Map();
    }
  }

  function valid(entries) {
    const result = new Map();
    for (const [latent, entry] of Object.entries(entries ?? {})) {
      const number = Number(latent);
      if (!Number.isInteger(number) || number < 0 || number >= Page.data.index().report.latents) continue;
      const note = typeof entry?.note === "string" ? entry.note.slice(0, 10000) : "";
      if (entry?.marked === true || note) result.set(number, { marked: entry.marked === true, note });
    }
    return result;
  }

  /** Keep a latent's entry. @returns whether it outlives this page */
  function set(latent, change) {
    const all = new Map(notes());
    const entry = { marked: false, note: "", ...all.get(latent), ...change };
    if (entry.marked || entry.note) all.set(latent, entry);
    else all.delete(latent);
    return write(key(), JSON.stringify(Object.fromEntries(all)));
  }

  const get = (latent) => notes().get(latent) ?? { marked: false, note: "" };

  /** Notes as a file that `load` reads. */
  function text() {
    const { title, report } = Page.data.index();
    return JSON.stringify(
      { format: "sparc-notes", title, run: report.run, latents: Object.fromEntries(notes()) },
      null,
      1,
    );
  }

  /** Add the notes of such a file. @returns their number; throws where it is no such file */
  function load(content) {
    const file = JSON.parse(content);
    if (file?.format !== "sparc-notes") throw new Error("this file holds no notes of a SPARC page");
    const added = valid(file.latents);
    write(key(), JSON.stringify(Object.fromEntries([...notes(), ...added])));
    return added.size;
  }

  function theme(value) {
    if (value !== undefined) write("sparc:theme", value);
    const chosen = read("sparc:theme");
    const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    return dark ? "dark" : "light";
  }

  return { notes, get, set, text, load, theme };
})();
