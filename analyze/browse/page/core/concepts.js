"use strict";
/** What the index says of latents: columns, names, streams. Columns are decoded when first used. */
Page.concepts = (() => {
  const { clean } = Page.dom;
  const decoded = new Map();
  let byKey = null;

  const index = () => Page.data.index();
  const total = () => index().report.latents;
  const streams = () => index().streams;
  const names = () => streams().map((stream) => stream.name);

  /**
   * A column, or undefined where the site has none of this key.
   * @returns {{key, label, help, group, stream, mode, kind, chance, shown, numbers, texts, codes}|undefined}
   *   `numbers`: by latent (NaN: not defined); of texts `codes` by latent (0: none) and `texts`
   */
  function column(key) {
    byKey ??= new Map(index().columns.map((one) => [one.key, one]));
    if (!decoded.has(key) && byKey.has(key)) {
      const { data, ...rest } = byKey.get(key);
      const made =
        data.type === "text"
          ? { ...rest, texts: data.values, codes: Page.data.numbers(data.codes) }
          : { ...rest, numbers: Page.data.numbers(data) };
      decoded.set(key, made);
    }
    return decoded.get(key);
  }

  const has = (key) => index().columns.some((one) => one.key === key);

  /** The number of a latent in a column, NaN where it is not defined. */
  function value(key, latent) {
    const numbers = column(key)?.numbers;
    return numbers ? numbers[latent] : NaN;
  }

  /** The text of a latent in a column, "" where there is none. */
  function text(key, latent) {
    const chosen = column(key);
    return chosen?.texts && chosen.codes[latent] ? chosen.texts[chosen.codes[latent] - 1] : "";
  }

  const dead = (latent) => value("dead", latent) === 1;

  const deadCount = () => column("dead").numbers.reduce((sum, one) => sum + one, 0);

  /** Is the latent's name in this stream a guess, which few images support? */
  const guess = (latent, stream) => value(`guess:${stream}`, latent) === 1;

  /**
   * What to call a latent, stream by stream: its names, else its most frequent class with the share of its rows.
   * @returns {{text: string, streams: string[], kind: "name"|"guess"|"class", share: number}[]} equal texts once
   */
  function labels(latent) {
    const labels = [];
    for (const stream of names()) {
      const name = text(`name:${stream}`, latent);
      const label = name || text(`class:${stream}`, latent);
      if (!label) continue;
      const kind = !name ? "class" : guess(latent, stream) ? "guess" : "name";
      const share = name ? NaN : value(`purity:${stream}`, latent);
      const same = labels.find((one) => one.text === label);
      if (!same) labels.push({ text: label, streams: [stream], kind, share });
      else if (kind === "name") Object.assign(same, { kind, share, streams: [...same.streams, stream] });
      else same.streams.push(stream);
    }
    return labels;
  }

  /** The streams that have a latent's concept: `kind` says which of two is meant, what one has or what one lacks. */
  function having(latent, kind) {
    const [only, lacking] = [text("only", latent), text("lacking", latent)];
    if (only && kind !== "lacking") return names().filter((stream) => listed(only, stream));
    return names().filter((stream) => !listed(lacking, stream));
  }

  /** The best of these labels, from the streams that have the concept, with its first word alone; null: none. */
  function naming(latent, kind) {
    const streams = having(latent, kind);
    const all = labels(latent).filter((label) => label.streams.some((stream) => streams.includes(stream)));
    all.sort((a, b) => b.streams.length - a.streams.length);
    const best = ["name", "guess", "class"].map((one) => all.find((label) => label.kind === one)).find(Boolean);
    return best ? { ...best, text: clean(best.kind === "class" ? best.text : best.text.split(", ")[0], 60) } : null;
  }

  const title = (latent, kind) => naming(latent, kind)?.text ?? "";

  /** Is a stream in a text that lists streams? */
  const listed = (streams, stream) => streams.split(", ").includes(stream);

  /** The number of a stream, by which it has its colour; -1: no stream of this site. */
  const place = (stream) => names().indexOf(stream);

  /** How a column's values are written. */
  function format(shown, kind, group) {
    if (kind === "count") return Page.dom.count(shown);
    if (kind === "flag") return shown === 1 ? "yes" : shown === 0 ? "no" : "–";
    if (kind === "share" && ["size", "stream share"].includes(group)) return Page.dom.percent(shown);
    return Page.dom.number(shown, 2);
  }

  return {
    naming,
    having,
    listed,
    column,
    has,
    value,
    text,
    dead,
    deadCount,
    labels,
    title,
    names,
    streams,
    place,
    total,
    format,
  };
})();
