"use strict";
/** What is shown is in the address, all of it: `#/latent/42?mode=joint&sort=-interest`. */
Page.route = (() => {
  /** @returns {{view: string, id: string, params: URLSearchParams}} */
  function read() {
    const [path, search = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
    const [view = "", id = ""] = path.split("/");
    return { view: view || "start", id, params: new URLSearchParams(search) };
  }

  function link(view, id = "", params = new URLSearchParams()) {
    const path = view === "start" ? "" : `${view}${id === "" ? "" : `/${id}`}`;
    const search = new URLSearchParams(params).toString();
    return `#/${path}${search ? `?${search}` : ""}`;
  }

  function go(view, id, params) {
    location.hash = link(view, id, params);
  }

  /** Change parameters of the address (null removes one) and draw, without a step in the history. */
  function set(changes, { draw = true } = {}) {
    const { view, id, params } = read();
    for (const [key, value] of Object.entries(changes)) {
      params.delete(key);
      for (const one of [value].flat()) if (one !== null && one !== "" && one !== undefined) params.append(key, one);
    }
    history.replaceState(null, "", link(view, id, params));
    if (draw) window.dispatchEvent(new HashChangeEvent("hashchange"));
  }

  /** The parameters that make the list (so that a latent's page knows what comes next). */
  function listing(params = read().params) {
    const kept = new URLSearchParams();
    for (const key of ["sort", "q", "is", "stream", "class", "f", "dead", "lasso", "marked"]) {
      for (const value of params.getAll(key)) kept.append(key, value);
    }
    return kept;
  }

  return { read, link, go, set, listing };
})();
