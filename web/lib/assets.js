// What the server hands out beside the modules.
export const text = async (path) => {
  const address = new URL(`../${path}`, import.meta.url);
  const answer = await fetch(address, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`SpeCa: ${address} ${answer.status}`);
  return answer.text();
};

/** For a shadow root: no style leaks in or out. */
export const styles = new CSSStyleSheet();
await styles.replace(await text("speca.css"));
