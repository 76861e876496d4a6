namespace GpuTasks.Quota.Placement;

/// <summary>Which shapes a region is asked for, learnt from the latest arrivals with cards.</summary>
/// <param name="memory">Arrivals remembered: default 4,096.</param>
/// <param name="refresh">Arrivals between two weightings: default 1,000.</param>
/// <param name="least">Arrivals before it says anything: default 50.</param>
public sealed class ShapeMix(int memory = 4_096, int refresh = 1_000, int least = 50)
{
    private readonly Queue<Shape> latest = new();
    private int sinceRefresh;

    /// <summary>Shapes with the number of their arrivals: the most frequent ones, 95 of 100 arrivals. Empty until enough arrived.</summary>
    public IReadOnlyList<(Shape Shape, int Count)> Weights { get; private set; } = [];

    /// <summary>Sum of the counts.</summary>
    public long Total { get; private set; }

    /// <summary>Rises whenever the weights change.</summary>
    public int Version { get; private set; }

    /// <summary>Counts an arrival. Requests without cards cannot strand a card, so they do not count.</summary>
    public void Arrived(in Shape shape)
    {
        if (shape.GpuMiB == 0)
        {
            return;
        }

        latest.Enqueue(shape);
        if (latest.Count > memory)
        {
            latest.Dequeue();
        }

        if (++sinceRefresh >= (Weights.Count == 0 ? least : refresh))
        {
            Weigh();
        }
    }

    private void Weigh()
    {
        sinceRefresh = 0;
        var weights = new List<(Shape, int)>();
        var left = latest.Count * 95L / 100;
        Total = 0;
        foreach (var (shape, count) in latest.CountBy(s => s).OrderByDescending(s => s.Value).ThenBy(s => s.Key, Comparer<Shape>.Create(ByContent)))
        {
            if (left <= 0)
            {
                break;
            }

            weights.Add((shape, count));
            Total += count;
            left -= count;
        }

        Weights = weights;
        Version++;
    }

    private static int ByContent(Shape a, Shape b) =>
        (a.Types, a.GpuMiB, a.CpuMilli, a.MemoryMiB, a.DiskMiB).CompareTo((b.Types, b.GpuMiB, b.CpuMilli, b.MemoryMiB, b.DiskMiB));
}
