using GpuTasks.Quota.Placement;

namespace GpuTasks.Simulation;

/// <summary>
/// The openb trace (Alibaba cluster-trace-gpu-v2023): nodes and task lists as published. A card counts 1,000 units of
/// memory, since the trace knows thousandths of a card and no memory.
/// </summary>
public sealed class OpenbTrace
{
    private readonly Dictionary<string, ulong> types = [];

    private OpenbTrace(string folder)
    {
        Nodes = [.. Rows(Path.Combine(folder, "openb_node_list_gpu_node.csv")).Select(row => new NodeRoom
        {
            Node = row["sn"],
            Open = true,
            CpuMilli = int.Parse(row["cpu_milli"]),
            MemoryMiB = int.Parse(row["memory_mib"]),
            Cards = [.. Enumerable.Range(0, int.Parse(row["gpu"])).Select(i => new CardRoom($"{row["sn"]}-{i}", BitOf(row["model"]), 1_000, 1_000, null))],
        })];
        AnyType = types.Values.Aggregate(0UL, (all, bit) => all | bit);
        Lists = Directory.GetFiles(folder, "openb_pod_list_*.csv").Order(StringComparer.Ordinal)
            .ToDictionary(path => Path.GetFileNameWithoutExtension(path)["openb_pod_list_".Length..], path => (IReadOnlyList<Shape>)[.. Rows(path).Select(ShapeOf)]);
        var published = Path.Combine(folder, "published_allocation.csv");
        Published = File.Exists(published)
            ? Rows(published).ToDictionary(row => (row["workload"]["openb_pod_list_".Length..], row["policy"]), row => double.Parse(row["alloc_pct_at_130"]))
            : [];
    }

    /// <summary>The trace's nodes, empty.</summary>
    public IReadOnlyList<NodeRoom> Nodes { get; }

    /// <summary>Tasks by the name of their list.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<Shape>> Lists { get; }

    /// <summary>Published allocation at 130 % demand, in per cent, by list and policy.</summary>
    public IReadOnlyDictionary<(string List, string Policy), double> Published { get; }

    private ulong AnyType { get; }

    /// <summary>Reads the trace, or gives null if the folder does not hold it.</summary>
    public static OpenbTrace? Read(string folder) =>
        File.Exists(Path.Combine(folder, "openb_node_list_gpu_node.csv")) ? new OpenbTrace(folder) : null;

    /// <summary>
    /// The published experiment: tasks drawn with replacement arrive until they have asked for <paramref name="demand"/>
    /// of all cards; none leaves; one that does not fit is passed over.
    /// </summary>
    /// <returns>Share of all cards handed out, in per cent.</returns>
    public double Replay(string list, IPlacement placement, int seed, double demand = 1.3)
    {
        var random = new Random(seed);
        var tasks = Lists[list];
        var rooms = Nodes.ToArray();
        var index = rooms.Select((room, i) => (room.Node, i)).ToDictionary(r => r.Node, r => r.i);
        long cards = rooms.Sum(room => room.Cards.Length) * 1_000L, asked = 0, given = 0;
        while (asked < demand * cards)
        {
            var task = tasks[random.Next(tasks.Count)];
            asked += task.GpuMiB;
            placement.Arrived(task);
            if (placement.Choose(rooms, task, "a") is { } spot)
            {
                given += task.GpuMiB;
                rooms[index[spot.Node.Node]] = spot.Node.After(task, spot, "a");
            }
        }

        return 100.0 * given / cards;
    }

    private Shape ShapeOf(Dictionary<string, string> row)
    {
        var count = int.Parse(row["num_gpu"]);
        var spec = row.GetValueOrDefault("gpu_spec", "");
        return new Shape(
            count == 0 ? 0 : spec.Length == 0 ? AnyType : spec.Split('|').Aggregate(0UL, (all, model) => all | BitOf(model)),
            count == 1 ? int.Parse(row["gpu_milli"]) : count * 1_000,
            int.Parse(row["cpu_milli"]),
            int.Parse(row["memory_mib"]),
            0);
    }

    private ulong BitOf(string model)
    {
        if (!types.TryGetValue(model, out var bit))
        {
            types.Add(model, bit = 1UL << types.Count);
        }

        return bit;
    }

    private static IEnumerable<Dictionary<string, string>> Rows(string path)
    {
        var lines = File.ReadAllLines(path);
        var names = lines[0].Split(',');
        return lines.Skip(1).Where(line => line.Length > 0)
            .Select(line => line.Split(',').Zip(names).ToDictionary(cell => cell.Second, cell => cell.First));
    }
}
