namespace GpuTasks.Dispatch;

/// <summary>The latest of some durations, to tell what the next ones may be like. No clock, no I/O.</summary>
public sealed class RecentTimes
{
    private const int Most = 64;
    private readonly Queue<TimeSpan> times = new(Most);
    private TimeSpan sum;

    /// <summary>How many it has.</summary>
    public int Count => times.Count;

    /// <summary>Their mean; zero without any.</summary>
    public TimeSpan Mean => times.Count == 0 ? TimeSpan.Zero : sum / times.Count;

    /// <summary>Takes one in; the oldest goes when there are 64.</summary>
    public void Add(TimeSpan time)
    {
        time = time < TimeSpan.Zero ? TimeSpan.Zero : time;
        if (times.Count == Most)
        {
            sum -= times.Dequeue();
        }

        times.Enqueue(time);
        sum += time;
    }
}

/// <summary>When a waiting task may begin, from how long runs took so far. No clock, no I/O.</summary>
public static class StartEstimate
{
    /// <summary>
    /// The slots serve the queue in turn: who is at the head gets the one that is free first, and so on, and each run
    /// takes as long as the mean of those before.
    /// </summary>
    /// <param name="freeAt">When each slot is expected to be free.</param>
    /// <param name="run">Mean length of a run.</param>
    /// <param name="ahead">How many begin before.</param>
    /// <param name="now">The moment; nothing begins before.</param>
    /// <returns>Null without slots.</returns>
    public static DateTimeOffset? Of(IEnumerable<DateTimeOffset> freeAt, TimeSpan run, long ahead, DateTimeOffset now)
    {
        var slots = freeAt.Select(at => at < now ? now : at).Order().ToArray();
        if (slots.Length == 0)
        {
            return null;
        }

        var rounds = ahead / slots.Length;
        var ticks = slots[ahead % slots.Length].UtcTicks + ((double)rounds * run.Ticks);
        return ticks < DateTimeOffset.MaxValue.UtcTicks ? new DateTimeOffset((long)ticks, TimeSpan.Zero) : null;
    }
}
