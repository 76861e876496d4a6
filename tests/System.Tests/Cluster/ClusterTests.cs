using System.Globalization;

namespace GpuTasks.SystemTests;

/// <summary>Separate processes form one platform.</summary>
public sealed class ClusterTests
{
    [Fact]
    public async Task Three_control_silos_two_nodes_and_two_gateways_run_tasks_together()
    {
        await using var lab = await Lab.StartAsync();
        await lab.Clients[0].CreateEchoAsync("spread", change: definition => definition["cpu"] = 0.5);
        var ids = Enumerable.Range(1, 40).Select(n => $"t{n.ToString("D3", CultureInfo.InvariantCulture)}").ToArray();
        await Task.WhenAll(ids.Select((id, n) => lab.Clients[n % 2].AcceptedAsync("spread", id, """{"mode":"sleep","seconds":1}""")));
        await Eventually.ComesAsync("the end of all", TimeSpan.FromMinutes(2), () => lab.Clients[1].CountsAsync("spread"), counts => counts is (0, 0, 40));
        var ended = await lab.Clients[1].ListAsync("spread");
        Assert.All(ended, task => Assert.Equal("Succeeded", task.Status));
        Assert.Equal(ids, ended.Select(task => task.Id).Order(StringComparer.Ordinal));
        foreach (var node in Enumerable.Range(0, 2))
        {
            Assert.NotEmpty(await lab.ContainersAsync(node));
        }

        Assert.All(lab.Members, member => Assert.Equal(0, member.Ends));
    }
}
