"""Stop words: what holds sentences together and says little about their subject. Short lists, in lower case."""

ENGLISH = """
a about above after again against all am an and any are as at be because been before being below between both but by can
could did do does doing don't down during each few for from further had has have having he her here hers herself him
himself his how i if in into is it its itself just me more most my myself no nor not now of off on once only or other our
ours ourselves out over own same she should so some such than that the their theirs them themselves then there these they
this those through to too under until up very was we were what when where which while who whom why will with would you
your yours yourself yourselves
"""

CHINESE = """
的 了 和 是 在 也 就 都 而 及 与 或 一 一个 不 没 没有 我 你 您 他 她 它 我们 你们 他们 她们 它们
这 那 这个 那个 这些 那些 这里 那里 之 于 以 为 因为 所以 但 但是 如果 虽然 并 并且 而且 还 还是 又 再 很 太 更 最
被 把 将 从 到 对 对于 向 给 让 由 由于 等 着 过 吗 呢 吧 啊 呀 嘛 什么 怎么 谁 哪 哪里 几 个 地 得 其 此 则 若 即
会 能 可以 要 有
"""
