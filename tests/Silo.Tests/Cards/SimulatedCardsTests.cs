using GpuTasks.Cards;
using GpuTasks.Nodes;

namespace GpuTasks.Tests.Cards;

public sealed class SimulatedCardsTests
{
    [Fact]
    public void A_specification_makes_that_many_cards_of_each_type()
    {
        var cards = new SimulatedCards("node-1", "fc.gpu.tesla.1:16384x4, fc.gpu.ada.1:49152").Cards;

        Assert.Equal(5, cards.Count);
        Assert.Equal(4, cards.Count(card => card is { Type: "fc.gpu.tesla.1", MemoryMiB: 16_384 }));
        Assert.Single(cards, card => card is { Type: "fc.gpu.ada.1", MemoryMiB: 49_152 });
        Assert.All(cards, card => Assert.True(card is { Simulated: true, State: CardState.Ready }));
        Assert.All(cards, card => Assert.Contains("simulated", card.Name, StringComparison.Ordinal));
    }

    [Fact]
    public void Identities_are_stable_and_differ_between_cards_and_nodes()
    {
        var first = new SimulatedCards("node-1", "a:1x2,b:1").Cards.Select(card => card.Uuid).ToList();
        var again = new SimulatedCards("node-1", "b:1,a:9x2").Cards.Select(card => card.Uuid).ToList();
        var other = new SimulatedCards("node-2", "a:1x2,b:1").Cards.Select(card => card.Uuid).ToList();

        Assert.Equal(first.Order(), again.Order());
        Assert.Equal(6, first.Concat(other).Distinct().Count());
        Assert.All(first, uuid => Assert.Matches("^SIM-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", uuid));
    }

    [Fact]
    public void A_type_named_twice_gets_distinct_cards() =>
        Assert.Equal(3, new SimulatedCards("n", "a:1,a:2x2").Cards.Select(card => card.Uuid).Distinct().Count());

    [Fact]
    public void No_specification_means_no_cards() => Assert.Empty(new SimulatedCards("n", "").Cards);

    [Theory]
    [InlineData("a")]
    [InlineData("a:")]
    [InlineData(":5")]
    [InlineData("a:0")]
    [InlineData("a:5x0")]
    [InlineData("a:5x2x2")]
    [InlineData("a:-5")]
    [InlineData("a b:5")]
    [InlineData("a:5000000")]
    [InlineData("a:1x1024,b:1")]
    public void A_wrong_specification_is_refused_with_words(string text)
    {
        Assert.False(CardSpec.TryParse(text, out _, out var fault));
        Assert.NotEmpty(fault);
    }
}
