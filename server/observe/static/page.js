// Keeps an open page current: when the server names a new state, the page is asked for again and its parts that have
// changed are put in place. Without this script the pages show the same, until they are loaded again.
"use strict";

(() => {
  const SLOWEST = 30000;
  const GROWING = 5000;
  const line = document.getElementById("connection");
  let stream = null;
  let pause = 1000;
  let retry = 0;
  let growth = 0;
  let busy = false;
  let again = false;

  const say = (state, text) => {
    line.dataset.state = state;
    line.textContent = text;
  };

  // What has the keyboard's focus is found again by its id or its address; nothing scrolls.
  const focused = (part) => {
    const held = document.activeElement;
    if (!held || !part.contains(held)) return null;
    if (held.id) return `#${CSS.escape(held.id)}`;
    const address = held.getAttribute("href");
    return address ? `a[href="${CSS.escape(address)}"]` : null;
  };

  const names = (of) => [...of.querySelectorAll("[data-live]")].map((part) => part.id).join();

  const place = (next) => {
    if (names(document) !== names(next)) {
      // Another kind of page: the journal can be read again, or what was shown is gone.
      document.getElementById("main").replaceWith(document.adoptNode(next.getElementById("main")));
    } else {
      for (const fresh of next.querySelectorAll("[data-live]")) {
        const old = document.getElementById(fresh.id);
        if (old.outerHTML === fresh.outerHTML) continue;
        const held = focused(old);
        old.replaceWith(document.adoptNode(fresh));
        if (held) document.getElementById(fresh.id).querySelector(held)?.focus({ preventScroll: true });
      }
      const announcer = document.getElementById("announcer");
      const summary = next.getElementById("announcer").textContent;
      if (announcer.textContent !== summary) announcer.textContent = summary;
    }
    document.title = next.title;
    document.body.dataset.version = next.body.dataset.version;
  };

  const grow = () => {
    clearTimeout(growth);
    if (document.querySelector("[data-growing]") && !document.hidden) growth = setTimeout(refresh, GROWING);
  };

  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.headers.get("Content-Type")?.startsWith("text/html")) {
        place(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
    } catch {
      // The stream says that the server is away, and asks again when it is back.
    }
    busy = false;
    grow();
    if (again) {
      again = false;
      refresh();
    }
  };

  const leave = () => {
    clearTimeout(retry);
    clearTimeout(growth);
    if (stream) stream.close();
    stream = null;
  };

  const follow = () => {
    leave();
    stream = new EventSource("/events");
    stream.addEventListener("version", (message) => {
      pause = 1000;
      say("live", "live");
      if (message.data === document.body.dataset.version) grow();
      else refresh();
    });
    stream.addEventListener("error", () => {
      leave();
      say("lost", "not live: hookshim does not answer, trying again");
      retry = setTimeout(follow, pause);
      pause = Math.min(pause * 2, SLOWEST);
    });
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      leave();
      say("paused", "paused");
    } else {
      follow();
    }
  });
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => {
    if (event.persisted) follow();
  });
  if (!document.hidden) follow();
})();
