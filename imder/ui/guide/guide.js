// The tour and the address. Runs inside gr.HTML's js_on_load, where `element` is given, after `const STOPS`.
(() => {
  "use strict";

  const ref = Object.fromEntries([...element.querySelectorAll("[data-ref]")].map((node) => [node.dataset.ref, node]));
  const tour = element.querySelector("#tour");
  const FIRST = "recover";
  const calm = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  // --- pages -----------------------------------------------------------------------------------------------------------

  const tabs = () => [...document.querySelectorAll("#pages [role=tab]")];
  const nameOf = (tab) => tab.id.replace(/^page-/, "").replace(/-button$/, "");
  const shown = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");

  function open(page) {
    const tab = tabs().find((one) => nameOf(one) === page);
    if (tab && tab !== shown()) tab.click();
    return Boolean(tab);
  }

  /** The page is named in the address, so that it can be shared; the first has no name, and `page` is Gradio's own. */
  function keep() {
    const tab = shown();
    if (!tab) return;
    const address = new URL(location);
    const page = nameOf(tab);
    if (page === FIRST) address.searchParams.delete("view");
    else address.searchParams.set("view", page);
    if (address.href !== location.href) history.replaceState(history.state, "", address);
    const list = tab.parentElement.parentElement;
    const [from, to] = [tab.offsetLeft, tab.offsetLeft + tab.offsetWidth];
    if (from < list.scrollLeft || to > list.scrollLeft + list.clientWidth) {
      list.scrollTo({ left: from - 24, behavior: calm() });
    }
  }

  function arrows(event) {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const all = tabs();
    const at = all.indexOf(document.activeElement);
    if (at < 0 || !(move || event.key === "Home" || event.key === "End")) return;
    event.preventDefault();
    const next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : (at + move + all.length) % all.length;
    all[next].focus();
    all[next].click();
  }

  /** The tabs are drawn a little after this component. */
  function whenDrawn(begin) {
    if (tabs().length) return begin();
    const waiting = new MutationObserver(() => {
      if (!tabs().length) return;
      waiting.disconnect();
      begin();
    });
    waiting.observe(document.body, { childList: true, subtree: true });
  }

  whenDrawn(() => {
    const list = tabs()[0].closest("[role=tablist]");
    const wanted = new URL(location).searchParams.get("view");
    if (wanted) open(wanted);
    new MutationObserver(keep).observe(list, { attributes: true, subtree: true, attributeFilter: ["aria-selected"] });
    list.addEventListener("keydown", arrows);
  });

  // --- the tour --------------------------------------------------------------------------------------------------------

  let at = -1;
  let marked = null;
  let before = null;

  function mark(node) {
    marked?.classList.remove("toured");
    marked = node;
    if (!node) return;
    node.classList.add("toured");
    const box = node.getBoundingClientRect();
    const tall = box.height > innerHeight * 0.6;
    node.scrollIntoView({ behavior: calm(), block: tall ? "start" : "center" });
  }

  /** Marks the stop's target as soon as it is there: a page that is opened for the first time is drawn a moment later. */
  function seek(index, until) {
    if (at !== index) return;
    const node = document.querySelector(STOPS[index].target);
    if (node?.offsetParent) mark(node);
    else if (performance.now() < until) setTimeout(() => seek(index, until), 50);
  }

  function show(index) {
    at = index;
    const stop = STOPS[index];
    open(stop.page);
    ref.title.textContent = stop.title;
    ref.text.textContent = stop.text;
    ref.count.textContent = index + 1 + " of " + STOPS.length;
    ref.back.disabled = index === 0;
    ref.next.textContent = index === STOPS.length - 1 ? "Done" : "Next";
    tour.dataset.step = index;
    tour.hidden = false;
    mark(null);
    seek(index, performance.now() + 2000);
    tour.focus({ preventScroll: true });
  }

  function end() {
    at = -1;
    mark(null);
    tour.hidden = true;
    tour.dataset.step = "";
    before?.focus();
  }

  const next = () => (at === STOPS.length - 1 ? end() : show(at + 1));
  const back = () => at > 0 && show(at - 1);

  ref.start.addEventListener("click", () => {
    before = ref.start;
    show(0);
  });
  ref.next.addEventListener("click", next);
  ref.back.addEventListener("click", back);
  ref.end.addEventListener("click", end);
  tour.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") next();
    else if (event.key === "ArrowLeft") back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && at >= 0 && end());
})();
