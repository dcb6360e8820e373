// Inside the frame: draws what comes through the port. It has no origin, no network and nothing to steal.
/* global mermaid */
"use strict";
addEventListener("message", (event) => {
  const port = event.ports[0];
  if (event.data !== "port" || !port) return;
  let turn = Promise.resolve();
  port.onmessage = ({ data: { id, source, dark } }) => {
    turn = turn.then(async () => {
      try {
        mermaid.initialize({
          startOnLoad: false, securityLevel: "strict", theme: dark ? "dark" : "neutral", htmlLabels: false, flowchart: { htmlLabels: false },
          fontFamily: "system-ui, sans-serif",
        });
        const { svg } = await mermaid.render(`d${id}`, source);
        port.postMessage({ id, svg: withSize(svg) });
      } catch (error) {
        port.postMessage({ id, error: String((error && error.message) || error) });
        document.body.replaceChildren();
      }
    });
  };
  port.postMessage("ready");
}, { once: true });

/// An image needs a width and a height of its own, which Mermaid leaves to the page; and it must be well-formed XML.
function withSize(svg) {
  const holder = new DOMParser().parseFromString(svg, "text/html").querySelector("svg");
  const box = (holder.getAttribute("viewBox") || "0 0 600 400").split(/[\s,]+/).map(Number);
  holder.setAttribute("width", String(Math.ceil(box[2])));
  holder.setAttribute("height", String(Math.ceil(box[3])));
  holder.removeAttribute("style");
  return new XMLSerializer().serializeToString(holder);
}
