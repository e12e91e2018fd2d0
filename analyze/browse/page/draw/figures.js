"use strict";
/** A figure with what it must exceed: a bar, a whisker for its interval, ticks for its controls. */
Page.figures = (() => {
  const { h, words, count, number, percent } = Page.dom;

  /** The look of a stream, as classes: six colours, then the same with square dots. */
  function hue(stream) {
    const place = Math.max(0, Page.concepts.place(stream));
    return `stream-${place % 6}${place % 12 < 6 ? "" : " square"}`;
  }

  /** A stream's dot alone, which says its name when it is pointed at. */
  const dot = (stream) => h("i", { class: `dot ${hue(stream)}`, title: stream });

  /** A stream's name behind its dot. */
  const stream = (name) =>
    h("span", { class: `stream ${hue(name)}` }, h("i.dot", { "aria-hidden": "true" }), words(name, 40));

  const given = () =>
    h(
      "span.given",
      { title: "All streams were made to select the same latents, so that they agree in part by construction" },
      "given in part by construction",
    );

  /**
   * @param {{value: number, low?: number, high?: number, range?: number[]|null, given?: boolean,
   *   controls?: {name: string, value: number}[], stream?: string, label?: string}} figure
   */
  function bar(figure) {
    const controls = (figure.controls ?? []).filter((control) => Number.isFinite(control.value));
    const numbers = [figure.value, figure.low, figure.high, ...controls.map((control) => control.value)].filter(
      Number.isFinite,
    );
    const [from, to] = extent(figure.range, numbers);
    const at = (value) => Math.min(100, Math.max(0, (100 * (value - from)) / (to - from || 1)));
    const zero = at(Math.max(from, Math.min(0, to)));
    const end = at(figure.value);
    const part = [];
    if (Number.isFinite(figure.value)) {
      part.push(h("i.fill", { vars: { left: `${Math.min(zero, end)}%`, width: `${Math.abs(end - zero)}%` } }));
      if (Number.isFinite(figure.low) && Number.isFinite(figure.high)) {
        part.push(
          h("i.whisker", { vars: { left: `${at(figure.low)}%`, width: `${at(figure.high) - at(figure.low)}%` } }),
        );
      }
    }
    for (const control of controls)
      part.push(
        h("i.tick", { vars: { left: `${at(control.value)}%` }, title: `${control.name}: ${number(control.value)}` }),
      );
    const kind = ["bar", figure.given && "by-construction", figure.stream && hue(figure.stream)]
      .filter(Boolean)
      .join(" ");
    return h("span", { class: kind, role: "img", "aria-label": spoken(figure, controls) }, part);
  }

  /** The ends of a bar's scale: those that are known, 0 to 1 where that holds all numbers, else what these need. */
  function extent(range, numbers) {
    if (range) return range;
    const low = Math.min(0, ...numbers);
    const high = Math.max(0, ...numbers);
    if (low > -0.05 && high <= 1) return [0, 1];
    return [low, high + (high - low) * 0.08 || 1];
  }

  function spoken(figure, controls) {
    const parts = [`${figure.label ? `${figure.label}: ` : ""}${number(figure.value)}`];
    if (Number.isFinite(figure.low) && Number.isFinite(figure.high))
      parts.push(`95 % interval ${number(figure.low)} to ${number(figure.high)}`);
    for (const control of controls) parts.push(`${control.name} ${number(control.value)}`);
    return parts.join(", ");
  }

  /** A number as the report's summary writes it. */
  const WRITTEN = { count, percent, "one decimal": (value) => value.toFixed(1), decimal: number };

  /** What a headline figure is called: its words, the stream and the mode that these do not say. */
  function named({ text, stream, mode }) {
    const shown = mode ? text.replace(`, ${mode}`, "") : text;
    return [
      words(shown, 90),
      stream && !shown.includes(stream) ? [" ", words(stream, 40, "small")] : null,
      mode ? h("span.mode", mode) : null,
    ];
  }

  /** A headline figure of the report as a small block: words, value, bar, and its controls by name. */
  function headline(figure, { explained = false } = {}) {
    const written = (value) => (Number.isFinite(value) ? (WRITTEN[figure.style] ?? number)(value) : "–");
    const interval = Number.isFinite(figure.low) && Number.isFinite(figure.high);
    const half = interval ? ` ±${written((figure.high - figure.low) / 2)}` : "";
    const caption = h("figcaption", named(figure));
    if (!Number.isFinite(figure.value)) {
      return h("figure.headline", caption, h("p.value.none", words(figure.missing || "not measured", 200)));
    }
    const control = ({ name, value }) =>
      h("li", h("i.tick-key", { "aria-hidden": "true" }), words(name, 90), h("b", written(value)));
    return h(
      "figure",
      { class: `headline${figure.given ? " is-given" : ""}` },
      caption,
      h("p.value", h("b", written(figure.value)), h("small", ` ${figure.unit ?? ""}${half}`)),
      bar({ ...figure, label: figure.text }),
      h("ul.controls", figure.controls.map(control)),
      figure.better === "lower" ? h("small", "lower is better") : null,
      figure.given ? given() : null,
      explained && figure.explanation
        ? h("details", h("summary", "what it says"), h("p.help", words(figure.explanation, 700)))
        : null,
    );
  }

  return { bar, headline, named, stream, dot, hue, given };
})();
