"use strict";
/**
 * Elements and texts. Texts come from data sets and captions: they are set as text, never as
 * markup, and what would reorder or hide them (control and bidi characters) is shown escaped.
 */
const Page = {};

Page.dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

  /** A text from data, safe to show on one line: at most `limit` characters. */
  function clean(text, limit = 300) {
    const shown = String(text ?? "")
      .slice(0, limit * 2)
      .replace(/\s+/g, " ")
      .replace(HIDDEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
    const characters = Array.from(shown);
    const cut = characters.length > limit || String(text ?? "").length > limit * 2;
    return cut ? characters.slice(0, limit - 1).join("") + "…" : shown;
  }

  /** @param {Element} element of the selector's tag, without its classes */
  function fill(element, classes, content) {
    if (classes.length) element.setAttribute("class", classes.join(" "));
    const first = content[0];
    const attributes = first && Object.getPrototypeOf(first) === Object.prototype ? first : {};
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "on") {
        for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
      } else if (name === "vars") {
        for (const [key, set] of Object.entries(value)) element.style.setProperty(key, set);
      } else {
        element.setAttribute(name, value === true ? "" : String(value));
      }
    }
    add(element, attributes === first ? content.slice(1) : content);
    return element;
  }

  function add(element, children) {
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false || child === "") continue;
      element.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }

  /**
   * An element: `h("a.name", {href: "#/", on: {click}, vars: {"--at": "3%"}}, "text", child)`. Attributes may
   * be left out; `vars` sets style properties through the object model, which a strict policy allows.
   */
  function h(selector, ...content) {
    const [tag, ...classes] = selector.split(".");
    return fill(document.createElement(tag), classes, content);
  }

  /** The same in SVG. */
  function svg(selector, ...content) {
    const [tag, ...classes] = selector.split(".");
    return fill(document.createElementNS(SVG, tag), classes, content);
  }

  /** A text from data in its own element, cut to `limit` characters and isolated from its neighbours. */
  function words(text, limit = 120, tag = "span", attributes = {}) {
    const whole = clean(text, 1000);
    const shown = clean(text, limit);
    return h(
      tag,
      {
        ...attributes,
        class: `words ${attributes.class ?? ""}`.trim(),
        title: whole === shown ? null : whole,
      },
      shown,
    );
  }

  function replace(element, ...children) {
    element.replaceChildren();
    add(element, children);
    return element;
  }

  /** A button that does `act` when it is clicked; one that stays in has the attribute `aria-pressed`. */
  function button(label, act, attributes = {}) {
    return h("button", { type: "button", ...attributes, on: { click: act } }, label);
  }

  /** Show a dialog over the page, until it is closed or its surroundings are clicked. */
  function present(dialog) {
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  /** Say something to those who do not see it, and show it for a moment. */
  function say(text) {
    const place = document.querySelector("#said");
    place.textContent = text;
    place.classList.add("on");
    clearTimeout(say.timer);
    say.timer = setTimeout(() => place.classList.remove("on"), 2500);
  }

  /** Offer a file to save. */
  function save(name, text, type) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const link = h("a", { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    say(`${name} saved`);
  }

  /** Copy a text; a page of file:// may have no clipboard, then it is selected in a dialog. */
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      const field = h("textarea", { readonly: true, rows: 3, "aria-label": "text to copy" });
      field.value = text;
      const dialog = h(
        "dialog.plain",
        h("p", "Copy this text:"),
        field,
        h("form", { method: "dialog" }, h("button.primary", "Close")),
      );
      dialog.addEventListener("close", () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
      field.select();
    }
  }

  // ---- numbers ----
  const count = (value) => (Number.isFinite(value) ? Math.round(value).toLocaleString("en") : "–");

  /** A number with three digits or so: 0.374, 12.3, 1,024, 2e-12. */
  function number(value, digits = 3) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && size < 0.0005) return value.toExponential(0).replaceAll("-", "−");
    const places = size >= 100 ? 0 : size >= 10 ? Math.min(1, digits) : size >= 1 ? Math.min(2, digits) : digits;
    const text = value.toFixed(places).replace("-", "−");
    return size >= 1000 ? count(value) : text;
  }

  /** A share as a percentage: 2.7%, 38%. */
  function percent(value) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const hundred = value * 100;
    return `${hundred !== 0 && Math.abs(hundred) < 9.95 ? hundred.toFixed(1) : hundred.toFixed(0)}%`.replace("-", "−");
  }

  const plural = (amount, one, many = `${one}s`) => `${count(amount)} ${amount === 1 ? one : many}`;

  /** a, b and c. */
  function listed(names) {
    return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
  }

  return { h, svg, words, clean, replace, button, present, say, save, copy, count, number, percent, plural, listed };
})();
