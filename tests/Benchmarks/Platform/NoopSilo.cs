using System.Diagnostics;
using System.Globalization;
using System.Net;
using GpuTasks.Gateway;
using GpuTasks.Hosting;
using GpuTasks.Nodes;
using GpuTasks.Storage;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using HostOptions = GpuTasks.Hosting.HostOptions;

namespace GpuTasks.Benchmarks.Platform;

/// <summary>A whole silo with gateway and store, in a process of its own; only its node is <see cref="NoopAgent"/>.</summary>
internal static class NoopSilo
{
    public static async Task<int> RunAsync(string[] arguments)
    {
        var builder = WebApplication.CreateSlimBuilder(arguments);
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        var store = builder.Configuration.GetSection("GpuTasks:Store").Get<StoreOptions>()!;
        builder.Host.UseOrleans(silo =>
        {
            silo.UseGpuTasksCluster(new HostOptions { Name = "bench-node" }, store);
            silo.AddGpuTasksStore(store);
            silo.AddGpuTasksGrains(builder.Configuration);
            silo.Services.AddSingleton<NoopAgent>();
            silo.Services.AddSingleton<INodeAgent>(services => services.GetRequiredService<NoopAgent>());
            silo.Services.AddSingleton<IHostedService>(services => services.GetRequiredService<NoopAgent>());
        });
        builder.Services.AddGpuTasksGateway(builder.Configuration);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        var app = builder.Build();
        app.MapGpuTasksGateway();
        app.MapGet("/bench/ended", (NoopAgent agent) => Text(agent.Ended));
        app.MapGet("/bench/starts", (NoopAgent agent) =>
        {
            var starts = new List<double>();
            while (agent.Starts.TryDequeue(out var start))
            {
                starts.Add(start);
            }

            return string.Join('\n', starts.Select(Text));
        });
        app.MapGet("/bench/heap", () => Text(GC.GetTotalMemory(forceFullCollection: true)));
        app.MapGet("/bench/processor", () => Text(Process.GetCurrentProcess().TotalProcessorTime.TotalSeconds));
        await app.StartAsync();
        Console.WriteLine($"listening {app.Urls.First()}");
        await app.WaitForShutdownAsync();
        return 0;
    }

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture);
}
