"use strict";
/** Which latents are listed, and in which order: made from the address alone. */
Page.query = (() => {
  const concepts = Page.concepts;
  const collator = new Intl.Collator("en", { numeric: true });
  let last = { key: null, latents: null };

  /**
   * The question that an address asks.
   * @param {URLSearchParams} params
   */
  function parse(params) {
    const ranges = [];
    for (const part of params.getAll("f")) {
      const at = part.lastIndexOf(":");
      const [low, high] = part.slice(at + 1).split("..");
      if (at > 0 && concepts.has(part.slice(0, at))) {
        ranges.push({ key: part.slice(0, at), low: bound(low, -Infinity), high: bound(high, Infinity) });
      }
    }
    const sort = params.get("sort") ?? usual(params.get("is"));
    return {
      q: params.get("q") ?? "",
      is: params.get("is") ?? "",
      stream: params.get("stream") ?? "",
      class: params.get("class") ?? "",
      dead: params.get("dead") === "1",
      marked: params.get("marked") === "1",
      lasso: params.get("lasso") ?? "",
      ranges,
      sort: sort.replace(/^-/, ""),
      descending: sort.startsWith("-"),
    };
  }

  /** The order at first: by interest, which is agreement; what streams do not share, by frequency. */
  const usual = (is) => (is === "only" || is === "lacking" ? "-frequency" : "-interest");

  const bound = (text, otherwise) =>
    text === "" || text === undefined || Number.isNaN(Number(text)) ? otherwise : Number(text);

  /** Load what the question needs beyond the index. */
  async function prepare(question) {
    if (question.q) await Page.words.load();
    if (question.lasso) await Page.places.load();
  }

  /**
   * The latents that answer a question, in its order.
   * @returns {Promise<Uint32Array>}
   */
  async function answer(question) {
    await prepare(question);
    const key = JSON.stringify(question, (_, value) =>
      Number.isFinite(value) || typeof value !== "number" ? value : String(value),
    );
    if (last.key !== key || question.marked) last = { key, latents: order(select(question), question) };
    return last.latents;
  }

  /** @returns {Uint8Array} 1 for each latent that is listed */
  function select(question) {
    const total = concepts.total();
    const kept = new Uint8Array(total).fill(1);
    const only = (test) => {
      for (let i = 0; i < total; i += 1) if (kept[i] && !test(i)) kept[i] = 0;
    };
    const dead = concepts.column("dead").numbers;
    if (!question.dead) only((i) => dead[i] !== 1);
    if (question.is === "shared") only((i) => concepts.value("shared", i) === 1);
    if (question.is === "only" || question.is === "lacking") {
      only((i) => {
        const text = concepts.text(question.is, i);
        return question.stream ? concepts.listed(text, question.stream) : text !== "";
      });
    }
    for (const { key, low, high } of question.ranges) {
      const values = concepts.column(key).numbers;
      if (values) only((i) => values[i] >= low && values[i] <= high);
    }
    for (const set of [
      question.class && ofClass(question.class),
      question.q && ofWords(question.q),
      question.lasso && Page.places.inside(question.lasso),
      question.marked && new Set(Page.keep.notes().keys()),
    ]) {
      if (set) only((i) => set.has(i));
    }
    return kept;
  }

  function order(kept, question) {
    const latents = [];
    for (let i = 0; i < kept.length; i += 1) if (kept[i]) latents.push(i);
    const sign = question.descending ? -1 : 1;
    const column = concepts.column(question.sort);
    if (!column) return Uint32Array.from(question.descending ? latents.reverse() : latents);
    const values = column.numbers ?? ranks(column);
    latents.sort((a, b) => {
      const [first, second] = [values[a], values[b]];
      if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second) || a - b;
      return sign * (first - second) || a - b;
    });
    return Uint32Array.from(latents);
  }

  /** The place of each latent's text in the alphabet, NaN for none. */
  function ranks(column) {
    if (!column.ranks) {
      const sorted = column.texts.map((text, i) => [text, i]).sort((a, b) => collator.compare(a[0], b[0]));
      const place = new Float64Array(column.texts.length + 1).fill(NaN);
      sorted.forEach(([, code], rank) => {
        place[code + 1] = rank;
      });
      column.ranks = Float64Array.from(column.codes, (code) => place[code]);
    }
    return column.ranks;
  }

  function ofClass(name) {
    const { classes, class_latents: pairs } = Page.data.index();
    const at = classes.indexOf(name);
    if (at < 0) return new Set();
    const starts = Page.data.numbers(pairs.starts);
    return new Set(Page.data.numbers(pairs.latents).subarray(starts[at], starts[at + 1]));
  }

  /** Latents that have all words of a search: by prefix, among names, classes and captions; or their number. */
  function ofWords(q) {
    const terms = q
      .toLowerCase()
      .split(/[\s,]+/)
      .filter(Boolean);
    const sets = terms.map((term) => {
      const set = Page.words.latents(term);
      const number = /^#?(\d+)$/.exec(term);
      if (number && Number(number[1]) < concepts.total()) set.add(Number(number[1]));
      return set;
    });
    if (!sets.length) return null;
    return sets.reduce((all, set) => new Set([...all].filter((latent) => set.has(latent))));
  }

  return { parse, answer, select };
})();
