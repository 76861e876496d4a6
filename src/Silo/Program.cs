using System.ComponentModel.DataAnnotations;
using System.Net;
using GpuTasks.Containers;
using GpuTasks.Dispatch;
using GpuTasks.Gateway;
using GpuTasks.Hosting;
using GpuTasks.Nodes;
using GpuTasks.Secrets;
using GpuTasks.Storage;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Orleans.Dashboard;
using HostOptions = GpuTasks.Hosting.HostOptions;

// The settings beside the program, from wherever it is started.
var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });
var host = builder.Configuration.GetSection(HostOptions.Section).Get<HostOptions>() ?? new HostOptions();
var faults = new List<ValidationResult>();
if (!Validator.TryValidateObject(host, new ValidationContext(host), faults, validateAllProperties: true))
{
    await Console.Error.WriteLineAsync($"The configuration section {HostOptions.Section} is wrong:");
    await Console.Error.WriteLineAsync(string.Join(Environment.NewLine, faults.Select(fault => "  " + fault.ErrorMessage)));
    return 2;
}

Directory.CreateDirectory(host.DataDirectory);
var store = builder.Configuration.GetSection("GpuTasks:Store").Get<StoreOptions>() ?? new StoreOptions();
if (builder.Configuration["GpuTasks:Store:Path"] is null)
{
    store.Path = Path.Combine(host.DataDirectory, "gputasks.db");
}

if (host.IsSilo)
{
    builder.UseOrleans(silo =>
    {
        silo.UseGpuTasksCluster(host, store);
        silo.AddGpuTasksStore(store, builder.Configuration.GetSection(SecretOptions.Section).Get<SecretOptions>());
        silo.AddGpuTasksGrains(builder.Configuration, host);
        silo.AddDashboard();
    });
}
else
{
    builder.UseOrleansClient(client =>
    {
        client.UseGpuTasksCluster(host, store);
        client.AddDashboard();
    });
}

if (host.Has(HostOptions.NodeRole))
{
    // After Orleans, so that the silo runs before the agent reports.
    builder.Services.AddNodeAgent(builder.Configuration.GetSection(HostOptions.Section));
    builder.Services.PostConfigure<NodeOptions>(node =>
    {
        (node.Name, node.Region) = (host.Name, host.Region);
        node.DataDirectory = node.DataDirectory.Length > 0 ? node.DataDirectory : Path.GetFullPath(Path.Combine(host.DataDirectory, "node"));
    });
}

builder.Services.PostConfigure<DispatcherOptions>(options => options.Region = host.Region);
builder.Services.PostConfigure<GatewayOptions>(options => options.Region = host.Region);

var isGateway = host.Has(HostOptions.GatewayRole);
builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Parse(host.HttpAddress), host.HttpPort));
if (isGateway)
{
    builder.Services.AddGpuTasksGateway(builder.Configuration);
}

var app = builder.Build();
if (isGateway)
{
    app.UseOperatorKey("/dashboard");

    // It shows grains' states as they are in memory, where secrets are in the clear.
    app.UseHidden("/dashboard/GrainState");
    app.MapOrleansDashboard("/dashboard");
    app.MapGpuTasksGateway();
}
else
{
    app.MapGet("/healthz", () => Results.Json(new { status = "ok" }));
}

await app.StartAsync();
var addresses = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;
Console.WriteLine($"{(isGateway ? "gateway" : "health")}: {addresses.First()}");
await app.WaitForShutdownAsync();
return 0;
