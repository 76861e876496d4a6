using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

public sealed class PlacementTests
{
    [Fact]
    public void A_slice_goes_to_the_tightest_card_and_a_request_without_cards_to_where_none_is_free()
    {
        var rooms = new[] { Room("n1", 64_000, 1_000, 1_000), Room("n2", 64_000, 400, 1_000), Room("n3", 64_000, 0, 0) };
        var policy = new BestFit();
        Assert.Equal(("n2", 0), On(policy.Choose(rooms, new Shape(1, 300, 1_000, 0, 0), "a")));
        Assert.Equal(("n1", 0), On(policy.Choose(rooms, new Shape(1, 2_000, 1_000, 0, 0), "a")));
        Assert.Equal("n3", policy.Choose(rooms, new Shape(0, 0, 1_000, 0, 0), "a")!.Node.Node);
    }

    [Fact]
    public void Once_the_mix_is_learnt_a_slice_does_not_take_the_processors_that_whole_cards_need()
    {
        var mix = new ShapeMix();
        var policy = new FragmentationDescent(mix);
        for (var i = 0; i < 50; i++)
        {
            policy.Arrived(new Shape(1, 1_000, 8_000, 0, 0));
        }

        // On n1 a slice would leave its empty card without processors; on n2 nothing is stranded by it.
        var rooms = new[] { Room("n1", 9_000, 300, 1_000), Room("n2", 64_000, 400, 1_000) };
        var slice = new Shape(1, 300, 4_000, 0, 0);
        Assert.Equal("n1", new BestFit().Choose(rooms, slice, "a")!.Node.Node);
        Assert.Equal("n2", policy.Choose(rooms, slice, "a")!.Node.Node);
    }

    [Fact]
    public void Who_needs_few_processors_goes_where_they_will_not_last_and_who_needs_many_where_they_will()
    {
        var policy = new FragmentationDescent(new ShapeMix());
        var light = new Shape(1, 500, 1_000, 0, 0);
        var heavy = new Shape(1, 500, 9_000, 0, 0);
        for (var i = 0; i < 25; i++)
        {
            policy.Arrived(light);
            policy.Arrived(heavy);
        }

        var rooms = new[] { Room("rich", 40_000, 1_000, 1_000), Room("poor", 15_000, 1_000, 1_000) };
        Assert.Equal("poor", policy.Choose(rooms, light, "a")!.Node.Node);
        Assert.Equal("rich", policy.Choose(rooms, heavy, "a")!.Node.Node);
    }

    [Fact]
    public void Until_enough_arrived_it_is_best_fit()
    {
        var random = new Random(5);
        var policy = new FragmentationDescent(new ShapeMix());
        for (var i = 0; i < 200; i++)
        {
            var rooms = Enumerable.Range(0, 6).Select(n => Room($"n{n}", random.Next(64_000), [.. Enumerable.Range(0, 4).Select(_ => random.Next(1_001))])).ToArray();
            var shape = AnyShape(random);
            Assert.Equal(On(new BestFit().Choose(rooms, shape, "a")), On(policy.Choose(rooms, shape, "a")));
        }
    }

    [Fact]
    public void It_finds_a_place_exactly_when_best_fit_finds_one_and_always_a_valid_one()
    {
        var random = new Random(6);
        var policy = new FragmentationDescent(new ShapeMix(least: 10));
        for (var i = 0; i < 2_000; i++)
        {
            var rooms = Enumerable.Range(0, 4).Select(n => Room($"n{n}", random.Next(30_000), [.. Enumerable.Range(0, 4).Select(_ => random.Next(3) == 0 ? 1_000 : random.Next(1_001))])).ToArray();
            var shape = AnyShape(random);
            policy.Arrived(shape);
            var spot = policy.Choose(rooms, shape, "a");
            Assert.Equal(new BestFit().Choose(rooms, shape, "a") is null, spot is null);
            Assert.Equal(rooms.Any(r => r.Fits(shape, "a")), spot is not null);
            if (spot is not null)
            {
                var after = spot.Node.After(shape, spot, "a");
                Assert.True(after.CpuMilli >= 0);
                Assert.All(after.Cards, card => Assert.InRange(card.FreeMiB, 0, 1_000));
                Assert.Equal(shape.GpuMiB, spot.Node.Cards.Sum(c => c.FreeMiB) - after.Cards.Sum(c => c.FreeMiB));
            }
        }
    }

    [Fact]
    public void Kept_scores_never_outlive_what_they_were_made_from()
    {
        var random = new Random(7);
        var keeping = new FragmentationDescent(new ShapeMix(least: 10));
        var rooms = Enumerable.Range(0, 10).Select(n => Room($"n{n}", 64_000, 1_000, 1_000, 1_000, 1_000)).ToArray();
        var mix = new ShapeMix(least: 10);
        for (var i = 0; i < 400; i++)
        {
            var shape = AnyShape(random);
            keeping.Arrived(shape);
            mix.Arrived(shape);
            var spot = keeping.Choose(rooms, shape, "a");
            Assert.Equal(On(new FragmentationDescent(mix).Choose(rooms, shape, "a")), On(spot));
            var at = spot is null ? random.Next(10) : Array.IndexOf(rooms, spot.Node);
            rooms[at] = spot is null ? Room($"n{at}", 64_000, 1_000, 1_000, 1_000, 1_000) : spot.Node.After(shape, spot, "a");
        }
    }

    private static Shape AnyShape(Random random) =>
        new(1, new[] { 100, 250, 500, 1_000, 1_000, 2_000, 4_000 }[random.Next(7)], 1_000 * random.Next(1, 12), 0, 0);

    private static NodeRoom Room(string node, int cpu, params int[] free) => new()
    {
        Node = node,
        Open = true,
        CpuMilli = cpu,
        Cards = [.. free.Select((f, i) => new CardRoom($"{node}-{i}", 1, 1_000, f, null))],
    };

    private static (string? Node, int Card) On(Spot? spot) => (spot?.Node.Node, spot is { Cards: [var card, ..] } ? card : -1);
}
