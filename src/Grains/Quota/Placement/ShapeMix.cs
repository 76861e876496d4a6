using System.Numerics;

namespace GpuTasks.Quota.Placement;

/// <summary>What an arrival needs beside the cards, for each MiB of GPU memory, on the average of the mix.</summary>
/// <param name="CpuMilli">Processors, in thousandths.</param>
/// <param name="MemoryMiB">Memory.</param>
/// <param name="DiskMiB">Disk.</param>
public readonly record struct NeedsBeside(double CpuMilli, double MemoryMiB, double DiskMiB);

/// <summary>Which shapes a region is asked for, learnt from the latest arrivals with cards.</summary>
/// <param name="memory">Arrivals remembered: default 4,096.</param>
/// <param name="refresh">Arrivals between two weightings: default 1,000.</param>
/// <param name="least">Arrivals before it says anything: default 50.</param>
public sealed class ShapeMix(int memory = 4_096, int refresh = 1_000, int least = 50)
{
    /// <summary>More different shapes than this are rounded up to powers of two, which bounds what a decision costs.</summary>
    private const int MostShapes = 256;

    private readonly Queue<Shape> latest = new();
    private readonly Dictionary<ulong, NeedsBeside> beside = [];
    private int sinceRefresh;

    /// <summary>Shapes with the number of their arrivals: the most frequent ones, 95 of 100 arrivals. Empty until enough arrived.</summary>
    public IReadOnlyList<(Shape Shape, int Count)> Weights { get; private set; } = [];

    /// <summary>Sum of the counts.</summary>
    public long Total { get; private set; }

    /// <summary>Rises whenever the weights change.</summary>
    public int Version { get; private set; }

    /// <summary>What arrivals that a card type serves need beside it.</summary>
    public NeedsBeside Beside(ulong type)
    {
        if (!beside.TryGetValue(type, out var needs))
        {
            double gpu = 0, cpu = 0, ram = 0, disk = 0;
            foreach (var (shape, count) in Weights)
            {
                if ((shape.Types & type) != 0)
                {
                    gpu += (double)shape.GpuMiB * count;
                    cpu += (double)shape.CpuMilli * count;
                    ram += (double)shape.MemoryMiB * count;
                    disk += (double)shape.DiskMiB * count;
                }
            }

            beside.Add(type, needs = gpu == 0 ? default : new NeedsBeside(cpu / gpu, ram / gpu, disk / gpu));
        }

        return needs;
    }

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
        beside.Clear();
        var counts = latest.CountBy(shape => shape).ToList();
        if (counts.Count > MostShapes)
        {
            counts = [.. latest.CountBy(Rounded)];
        }

        counts.Sort(static (a, b) => a.Value != b.Value ? b.Value.CompareTo(a.Value) : ByContent(a.Key, b.Key));
        var weights = new List<(Shape, int)>();
        var left = latest.Count * 95L / 100;
        Total = 0;
        foreach (var (shape, count) in counts.Take(MostShapes).TakeWhile(_ => left > 0))
        {
            weights.Add((shape, count));
            Total += count;
            left -= count;
        }

        Weights = weights;
        Version++;
    }

    private static Shape Rounded(Shape shape) => shape with
    {
        CpuMilli = (int)Math.Min(int.MaxValue, BitOperations.RoundUpToPowerOf2((uint)shape.CpuMilli)),
        MemoryMiB = (int)Math.Min(int.MaxValue, BitOperations.RoundUpToPowerOf2((uint)shape.MemoryMiB)),
        DiskMiB = (int)Math.Min(int.MaxValue, BitOperations.RoundUpToPowerOf2((uint)shape.DiskMiB)),
    };

    private static int ByContent(Shape a, Shape b) =>
        (a.Types, a.GpuMiB, a.CpuMilli, a.MemoryMiB, a.DiskMiB).CompareTo((b.Types, b.GpuMiB, b.CpuMilli, b.MemoryMiB, b.DiskMiB));
}
