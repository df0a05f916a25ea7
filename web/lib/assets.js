// What the server hands out beside the modules.
export const text = async (path) => {
  const address = new URL(`../${path}`, import.meta.url);
  const answer = await fetch(address, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`SpeCa: ${address} ${answer.status}`);
  return answer.text();
};

const styles = await new CSSStyleSheet().replace(await text("speca.css"));

/** An element with others in its shadow root: no style leaks in or out. */
export function shadowed(...children) {
  const host = document.createElement("div");
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [styles];
  root.append(...children);
  return host;
}
