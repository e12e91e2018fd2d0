"use strict";
/** Words of names, classes and captions, and the latents that go with them. Loaded when first searched. */
Page.words = (() => {
  const { column, has, names, total } = Page.concepts;
  const SUGGESTED = 8;
  let sorted = null; // {word, entry}, in the order of this language's strings
  let starts = null;
  let members = null;

  async function load() {
    if (sorted || !Page.data.index().views.words) return;
    const file = await Page.data.load("words");
    starts = Page.data.numbers(file.starts);
    members = Page.data.numbers(file.latents);
    sorted = file.words.map((word, entry) => ({ word: word.toLowerCase(), entry }));
    sorted.sort((a, b) => (a.word < b.word ? -1 : a.word > b.word ? 1 : 0));
  }

  /** Entries whose word begins so, at most `limit`. */
  function beginning(term, limit = Infinity) {
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle].word < term) low = middle + 1;
      else high = middle;
    }
    const result = [];
    while (low < sorted.length && sorted[low].word.startsWith(term) && result.length < limit)
      result.push(sorted[low++]);
    return result;
  }

  /** The latents with a word that begins so. @returns {Set<number>} */
  function latents(term) {
    if (!sorted) return named(term);
    const set = new Set();
    for (const { entry } of beginning(term))
      for (const latent of members.subarray(starts[entry], starts[entry + 1])) set.add(latent);
    return set;
  }

  /** The same from the columns of names alone: a site has no file of words where classes are digits or signs, say. */
  function named(term) {
    const set = new Set();
    for (const key of names()
      .flatMap((stream) => [`name:${stream}`, `class:${stream}`])
      .filter(has)) {
      const { texts, codes } = column(key);
      const matching = texts.map((text) =>
        text
          .toLowerCase()
          .split(/[\s,]+/)
          .some((word) => word.startsWith(term)),
      );
      for (let i = 0; i < total(); i += 1) if (codes[i] && matching[codes[i] - 1]) set.add(i);
    }
    return set;
  }

  /** Words to suggest for a beginning, those of most latents first. */
  function suggestions(text) {
    const term = text
      .toLowerCase()
      .split(/[\s,]+/)
      .at(-1);
    if (!sorted || !term) return [];
    return beginning(term, 300)
      .map(({ word, entry }) => ({ word, latents: starts[entry + 1] - starts[entry] }))
      .sort((a, b) => b.latents - a.latents)
      .slice(0, SUGGESTED);
  }

  return { load, latents, suggestions };
})();
