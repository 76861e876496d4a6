using GpuTasks.Store;
using Orleans.Storage;

namespace GpuTasks.Quota;

/// <summary>The region's own stored row: which node rows there are, and what accounts may hold.</summary>
public sealed record RegionIndex
{
    /// <summary>
    /// Counts how often the region was taken over. Who takes over writes it into every row, so that whoever had the
    /// region before loses its next write, on whichever row: quotas reach over nodes, so fencing must as well.
    /// </summary>
    public long Term { get; init; }

    /// <summary>Names of the nodes with a row.</summary>
    public IReadOnlyList<string> Nodes { get; init; } = [];

    /// <summary>Accounts whose quota was set.</summary>
    public IReadOnlyDictionary<string, AccountRule> Accounts { get; init; } = new Dictionary<string, AccountRule>();
}

/// <summary>What an operator set for an account.</summary>
/// <param name="LimitMilliCards">Most it may hold.</param>
/// <param name="Weight">Its part when cards are short.</param>
public sealed record AccountRule(int LimitMilliCards, int Weight);

/// <summary>
/// The region's rows: one index and one for each node, so that a change writes the node it is about. Every write is
/// compare-and-set against what this copy last read or wrote.
/// </summary>
/// <param name="storage">Where the rows are.</param>
/// <param name="region">Name of the region.</param>
public sealed class RegionStore(IGrainStorage storage, string region)
{
    private readonly GrainState<RegionIndex> index = new(new RegionIndex());
    private readonly Dictionary<string, GrainState<LeaseTable>> rows = [];

    /// <summary>The index as last read or written.</summary>
    public RegionIndex Index => index.State ?? new RegionIndex();

    /// <summary>Reads everything and makes it ours: from here on an earlier owner's writes fail.</summary>
    /// <returns>The rows of all nodes.</returns>
    /// <exception cref="InconsistentStateException">Somebody else takes over at the same time; leave it to them.</exception>
    public async Task<IReadOnlyList<LeaseTable>> TakeOverAsync(CancellationToken cancellationToken)
    {
        await storage.ReadStateAsync(StoreNames.Region, IndexId, index, cancellationToken);

        // The index first: no node can be entered by an earlier owner behind our back afterwards.
        await WriteIndexAsync(Index with { Term = Index.Term + 1 });
        foreach (var some in Index.Nodes.Chunk(32))
        {
            await Task.WhenAll(some.Select(node => StampAsync(node, cancellationToken)));
        }

        return [.. Index.Nodes.Select(node => RowOf(node).State!)];
    }

    /// <summary>Makes sure that nobody has taken over.</summary>
    /// <exception cref="InconsistentStateException">Somebody has.</exception>
    public async Task ConfirmAsync()
    {
        var now = new GrainState<RegionIndex>(new RegionIndex());
        await storage.ReadStateAsync(StoreNames.Region, IndexId, now, CancellationToken.None);
        if (now.State?.Term != Index.Term)
        {
            throw new InconsistentStateException($"Region '{region}' was taken over: the store has term {now.State?.Term}, this is term {Index.Term}.");
        }
    }

    /// <summary>Enters a node. Its row may exist from an earlier time; then its fencing numbers go on from there.</summary>
    public async Task<LeaseTable> AddNodeAsync(string node)
    {
        await WriteIndexAsync(Index with { Nodes = [.. Index.Nodes.Append(node).Order(StringComparer.Ordinal)] });
        await StampAsync(node, CancellationToken.None);
        return RowOf(node).State!;
    }

    /// <summary>Writes a node's row. State writes run to the end, so nothing cancels them.</summary>
    public async Task WriteAsync(LeaseTable table)
    {
        var row = RowOf(table.Node);
        row.State = table;
        await storage.WriteStateAsync(StoreNames.RegionNode, NodeId(table.Node), row, CancellationToken.None);
    }

    /// <summary>Writes the index.</summary>
    public async Task WriteIndexAsync(RegionIndex next)
    {
        index.State = next;
        await storage.WriteStateAsync(StoreNames.Region, IndexId, index, CancellationToken.None);
    }

    private GrainId IndexId => GrainId.Create("region-quota", region);

    private GrainId NodeId(string node) => GrainId.Create("region-node", $"{region}/{node}");

    private GrainState<LeaseTable> RowOf(string node)
    {
        if (!rows.TryGetValue(node, out var row))
        {
            rows.Add(node, row = new GrainState<LeaseTable>(new LeaseTable { Node = node }));
        }

        return row;
    }

    private async Task StampAsync(string node, CancellationToken cancellationToken)
    {
        var row = RowOf(node);
        for (var attempt = 1; ; attempt++)
        {
            await storage.ReadStateAsync(StoreNames.RegionNode, NodeId(node), row, cancellationToken);
            var table = row.RecordExists && row.State is not null ? row.State : new LeaseTable { Node = node };
            if (table.Term > Index.Term)
            {
                throw new InconsistentStateException($"Region '{region}' was taken over again: node '{node}' has term {table.Term}, this is term {Index.Term}.");
            }

            try
            {
                await WriteAsync(table with { Term = Index.Term });
                return;
            }
            catch (InconsistentStateException) when (attempt < 10)
            {
                // The earlier owner wrote once more between our read and our write.
            }
        }
    }
}
