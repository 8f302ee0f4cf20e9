/* Densities of samples and of fitted laws, and which samples an interval holds. */
const GRID = 220;

/** Return evenly spaced numbers from `low` to `high`. */
function evenly(low, high, count) {
  return Array.from({ length: count }, (_, place) => low + ((high - low) * place) / (count - 1));
}

/** Return the mean and the standard deviation (ddof 1) of some numbers. */
function moments(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, std: Math.sqrt(squares / Math.max(values.length - 1, 1)) };
}

/** Return a Gaussian kernel density of `values` at `grid`, Scott's bandwidth std n^(-1/5), as scipy.stats.gaussian_kde; null
 * where all values are one. */
function kernelDensity(values, grid) {
  const { std } = moments(values);
  if (!(std > 0)) return null;
  const width = std * values.length ** -0.2;
  const scale = 1 / (values.length * width * Math.sqrt(2 * Math.PI));
  return grid.map((point) => {
    let sum = 0;
    for (const value of values) sum += Math.exp(-0.5 * ((point - value) / width) ** 2);
    return scale * sum;
  });
}

/** Return from where to where curves are drawn so that none is cut: three bandwidths past the samples, and the fitted law's
 * tails where they are no further out than the samples are wide. */
function wholeCurves(all, groups, { mean, std }) {
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const width = high - low || 1;
  const widths = groups.filter((found) => found.length > 1).map((found) => moments(found).std * found.length ** -0.2);
  const margin = Math.max(0.06 * width, 3.2 * Math.max(...widths, 0));
  const tails = std > 0 ? [mean - 3.5 * std, mean + 3.5 * std] : [low, high];
  return [Math.min(low - margin, Math.max(tails[0], low - width)), Math.max(high + margin, Math.min(tails[1], high + width))];
}

/** Return the density of a Gaussian at `grid`; null for one without width. */
function gaussian(mean, std, grid) {
  if (!(std > 0)) return null;
  return grid.map((point) => Math.exp(-0.5 * ((point - mean) / std) ** 2) / (std * Math.sqrt(2 * Math.PI)));
}

/** Return whether a value lies in any of the intervals, bounds included: the rule of ranges/intervals.py, in float32. */
function within(value, intervals) {
  return intervals.some(([low, high]) => low <= value && value <= high);
}

/** Return intervals as text. */
function intervalText(intervals) {
  const one = ([low, high]) => {
    const [open, close] = [low === -Infinity ? "(" : "[", high === Infinity ? ")" : "]"];
    return `${open}${numberText(low)}, ${numberText(high)}${close}`;
  };
  return intervals.length ? intervals.map(one).join(" ∪ ") : "nothing";
}
