"""Scenarios: streams whose drifts are known, each from a small TOML file; presets/ has examples.

A world has users u, items i, categories c, and a law p(i | u, t) by which a user chooses. A drift is a factor in this
law, or changes which items live; it happens only if the file has its table. Names in brackets are tables, other names
are their keys (sim/world/settings.py). t is event time in days since the beginning, T = base.days.

    ticks         time goes in N = ceil(events / 256) ticks of T/N; in a tick the world stands still, t is its begin
    alive         [growth]    L(t) = items × (first + (1 - first) (t/T')^power) items live, T' = begin of the last tick
                  [turnover]  an item lives ~ Exp(lifetime_d), or lifetime_d ("fixed"; those there at first have a
                              uniform part of it left), whole ticks, 1 at least; as many are born as L(t) lacks
    item          category ~ uniform (the first items one each), its weight there w_i =
                  (1 + items/categories × U(0,1))^-zipf, a Zipf law of random ranks
    shock         b_i(t) = Π over [[shock]] (1 + (factor - 1) 2^(-(t - at_d) / half_life_d)) for i drawn, t >= at_d
    season        s_c(t) = 1 + amplitude sin(2π (t / period_d + c / categories))
    taste         θ_u: `slots` categories ~ uniform with replacement, their weights ~ Dirichlet(concentration, …)
    rotation      θ_u(t) = θ_u,n, tastes n = 0, 1, … drawn independently, n + f = t / period_d, 0 <= f < 1;
                  "glide": (1 - f) θ_u,n + f θ_u,n+1
    law           q(i | u, t) ∝ θ_u,c(i)(t) s_c(i)(t) w_i b_i(t) / Σ_j alive in c(i) w_j      over items alive at t
                  p(i | u, t) = (1 - ε) q(i | u, t) + ε / L(t)          ε = noise.share, 1 for a bot, 0 without [noise]
    requests      visits begin uniformly in [0, T), by u in proportion to exp(activity × N(0,1)), × bots.activity for a
                  bot; a visit has a geometric number of requests, `session` on average, Exp(session_gap_s) apart
    click         without [slates]: each request is an organic click on i ~ p(· | u, t)

    [slates]      a request shows `size` items, drawn one after the other without repetition with weights
                  (1 - explore) a_i + explore / L(t); a = p(· | u, t) "taste", ∝ s_c w_i b_i "popularity", 1/L "uniform"
    [position]    place j = 1, 2, … is looked at with probability j^-decay; without the table always
    relevance     an item that is looked at is clicked with probability r = l / (l + half_lift), l = L(t) p(i | u, t)
    [delay]       a click comes ~ Exp(mean seconds), lognormal(median seconds, sigma) or `seconds` after its slate;
                  2 s without the table; one that would come when its item is dead does not come
    closed        the recommender's own lists are shown (sim/world/closed_loop.py);
                  regret = Σ_j j^-decay r of the best list (the items of largest p) minus that of the list shown

The seer (sim/world/upper_bound.py) knows all of it: an upper bound for every recommender. It is no oracle, which would
have to infer what is hidden. `kind = "dirichlet"` is the paper's stream (sim/dirichlet/stream.py), which has an oracle
(sim/dirichlet/oracle.py).
"""
