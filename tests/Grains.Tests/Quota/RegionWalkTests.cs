using GpuTasks.Nodes;

namespace GpuTasks.Quota;

public sealed class RegionWalkTests
{
    /// <summary>Random statements, reports, releases and reboots; after each step everything is counted again by hand.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void No_walk_breaks_what_must_always_hold(int seed)
    {
        var random = new Random(seed);
        var region = Build.Region();
        region.SetQuota("a", 5_300, 1, Build.Start);
        var now = Build.Start;
        var boots = new int[6];
        var cardEpochs = new Dictionary<string, long>();
        var nodeEpochs = new Dictionary<string, long>();
        for (var step = 0; step < 5_000; step++)
        {
            now += TimeSpan.FromMilliseconds(random.Next(3_000));
            var node = $"n{random.Next(6)}";
            var leases = region.Tables.SelectMany(t => t.Leases).ToList();
            switch (random.Next(10))
            {
                case < 4:
                    region.State(Build.Demand($"{"abc"[random.Next(3)]}", $"f{random.Next(4)}", 1_024 * new[] { 0, 1, 4, 8, 12, 16, 32, 64 }[random.Next(8)], random.Next(4), 1_000 * random.Next(1, 20)), now);
                    break;
                case < 7 when leases.Count > 0:
                    var lease = leases[random.Next(leases.Count)];
                    region.Release(lease.Node, lease.InstanceId, now);
                    break;
                default:
                    var index = node[1] - '0';
                    boots[index] += random.Next(20) == 0 ? 1 : 0;
                    var cards = Enumerable.Range(0, 1 + index).Where(_ => random.Next(30) > 0)
                        .Select(i => Build.Card($"{node}-gpu{i}", state: random.Next(15) == 0 ? CardState.Dirty : CardState.Ready)).ToList();
                    region.Join(Build.Report(node, 0, $"boot-{boots[index]}", [.. leases.Where(l => l.Node == node && random.Next(8) > 0).Select(l => l.InstanceId)]) with { Cards = cards, Adopted = random.Next(10) > 0 }, now);
                    break;
            }

            Check(region, cardEpochs, nodeEpochs);
        }

        Assert.True(cardEpochs.Values.Sum() > 1_000, "The walk granted next to nothing, so it proved nothing.");
    }

    private static void Check(RegionTable region, Dictionary<string, long> cardEpochs, Dictionary<string, long> nodeEpochs)
    {
        var leases = region.Tables.SelectMany(t => t.Leases).ToList();
        Assert.Equal(leases.Count, leases.Select(l => l.InstanceId).Distinct().Count());
        foreach (var account in leases.GroupBy(l => l.Account))
        {
            var quota = region.QuotaOf(account.Key);
            Assert.Equal(account.Sum(l => l.MilliCards), quota.HeldMilliCards);
            Assert.InRange(quota.HeldMilliCards, 0, quota.LimitMilliCards);
        }

        foreach (var card in leases.SelectMany(l => l.Cards.Select(c => (l.Account, Share: c))).GroupBy(c => c.Share.Uuid))
        {
            Assert.InRange(card.Sum(c => c.Share.MemoryMiB), 1, 16_384);
            Assert.Single(card.Select(c => c.Account).Distinct());
            Assert.Equal(card.Count(), card.Select(c => c.Share.Epoch).Distinct().Count());
        }

        foreach (var table in region.Tables)
        {
            Assert.InRange(table.Leases.Sum(l => l.CpuMilli), 0, table.CpuMilli);
            Assert.True(table.Epoch >= nodeEpochs.GetValueOrDefault(table.Node));
            Assert.All(table.Leases, l => Assert.True(l.NodeEpoch <= table.Epoch));
            nodeEpochs[table.Node] = table.Epoch;
            foreach (var card in table.Cards)
            {
                Assert.True(card.Epoch >= cardEpochs.GetValueOrDefault(card.Report.Uuid));
                cardEpochs[card.Report.Uuid] = card.Epoch;
            }
        }
    }
}
