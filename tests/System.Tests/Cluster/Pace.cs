namespace GpuTasks.SystemTests;

/// <summary>How fast tasks ended while a load was sent. Times are of the monotonic clock, in milliseconds.</summary>
internal sealed class Pace
{
    private const int MinuteMs = 60_000;
    private const int SampleMs = 500;
    private readonly long from;

    private Pace(long from) => this.from = from;

    /// <summary>One minute, the last of which may be shorter.</summary>
    /// <param name="Number">From 1.</param>
    /// <param name="Seconds">How long it is.</param>
    /// <param name="Ended">Tasks that ended in it.</param>
    /// <param name="Running">Runs that lived, on average.</param>
    /// <param name="Open">Tasks that were sent and had not ended, on average.</param>
    internal sealed record Minute(int Number, double Seconds, int Ended, double Running, double Open);

    public List<Minute> Minutes { get; } = [];

    /// <summary>Tasks ended per minute in the first third of the time.</summary>
    public double FirstThird { get; private set; }

    /// <summary>Tasks ended per minute in the last third of the time.</summary>
    public double LastThird { get; private set; }

    public int MinuteOf(long at) => (int)((at - from) / MinuteMs) + 1;

    /// <param name="sent">Every task.</param>
    /// <param name="seen">As they are in the end.</param>
    /// <param name="runs">What the functions themselves say of their runs.</param>
    public static Pace Of(ICollection<SentTask> sent, Dictionary<string, SeenTask> seen, List<SeenRun> runs)
    {
        var pace = new Pace(sent.Min(task => task.SentAt));
        var until = sent.Max(task => task.SentAt) + 1;
        var known = sent.Select(task => task.Id).ToHashSet();
        runs = [.. runs.Where(run => known.Contains(run.Task))];
        var toMonotonic = Environment.TickCount64 - DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        var lives = sent.Select(task => (From: task.SentAt, To: seen.TryGetValue(task.Id, out var end) && end.IsFinal ? end.EndedAt + toMonotonic : long.MaxValue)).ToList();
        for (var begin = pace.from; begin < until; begin += MinuteMs)
        {
            var end = Math.Min(begin + MinuteMs, until);
            var samples = Enumerable.Range(0, (int)((end - begin) / SampleMs) + 1).Select(n => begin + (n * SampleMs)).ToList();
            pace.Minutes.Add(new Minute(
                pace.MinuteOf(begin),
                (end - begin) / 1_000.0,
                EndedIn(begin, end),
                samples.Average(at => runs.Count(run => run.Began <= at && at < run.LastSeen)),
                samples.Average(at => lives.Count(life => life.From <= at && at < life.To))));
        }

        var third = (until - pace.from) / 3;
        pace.FirstThird = EndedIn(pace.from, pace.from + third) * (double)MinuteMs / third;
        pace.LastThird = EndedIn(until - third, until) * (double)MinuteMs / third;
        return pace;

        int EndedIn(long begin, long end) => lives.Count(life => life.To >= begin && life.To < end);
    }
}
