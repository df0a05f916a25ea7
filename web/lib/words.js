// The texts of the page, ../words.json. Pure.

/** Those of all languages. One with {1}, {2}, ... becomes a function of what goes there. */
export const wordsIn = (json) =>
  JSON.parse(json, (_, value) =>
    /\{\d\}/.test(value)
      ? (...parts) => value.replace(/\{(\d)\}/g, (_, place) => parts[place - 1])
      : value,
  );

/** The words of a locale ("zh", "zh-TW", ...); English where there is none. */
export const wordsOf = (languages, locale) => languages[locale?.split("-")[0]] ?? languages.en;
