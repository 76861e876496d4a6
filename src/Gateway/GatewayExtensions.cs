using GpuTasks.Gateway.Endpoints;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Keys;
using GpuTasks.Gateway.OpenApi;
using GpuTasks.Gateway.Signing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway;

/// <summary>How a process becomes a gateway, whether it is a silo or an Orleans client of its own.</summary>
public static class GatewayExtensions
{
    private const string DashboardRealm = "Basic realm=\"operator key as password\", charset=\"UTF-8\"";

    /// <summary>
    /// Adds what the endpoints need. Grains are reached through the container's <see cref="IGrainFactory"/>. Every answer of
    /// the process then carries a request id, and every error of it is JSON of the contract.
    /// </summary>
    /// <param name="services">Container.</param>
    /// <param name="configuration">Configuration with the section <see cref="GatewayOptions.Section"/>.</param>
    public static IServiceCollection AddGpuTasksGateway(this IServiceCollection services, IConfiguration configuration)
    {
        services.AddOptions<GatewayOptions>().Bind(configuration.GetSection(GatewayOptions.Section)).ValidateOnStart();
        services.AddSingleton<IValidateOptions<GatewayOptions>, GatewayOptionsCheck>();
        services.TryAddSingleton(TimeProvider.System);
        services.AddSingleton<KeyStore>();
        services.AddHostedService<KeyReloader>();
        services.AddSingleton<AccountCache>();
        services.AddHostedService(provider => provider.GetRequiredService<AccountCache>());
        services.AddSingleton<RateLimits>();
        services.AddSingleton<AuditTrail>();
        services.AddSingleton<Authenticator>();
        services.AddSingleton<BodyBudget>();
        services.AddSingleton<FunctionCache>();
        services.AddSingleton<HealthEndpoints>();
        services.AddSingleton<IStartupFilter, ShellFilter>();

        // First of all, since defaults reach only the endpoints that are added after them.
        services.Insert(0, ServiceDescriptor.Singleton<IConfigureOptions<KestrelServerOptions>>(new ConfigureOptions<KestrelServerOptions>(
            kestrel => kestrel.ConfigureEndpointDefaults(listen => listen.Use(next => connection => RejectionAnswer.OnConnectionAsync(next, connection))))));
        services.Configure<KestrelServerOptions>(kestrel =>
        {
            kestrel.AddServerHeader = false;

            // Our own limits are lower and answer in JSON; the server's would answer without a body.
            kestrel.Limits.MaxRequestLineSize = 65_536;
            kestrel.Limits.MaxRequestHeadersTotalSize = 131_072;
            kestrel.Limits.MaxRequestHeaderCount = 1_000;

            // Clients fail on a connection that closes under them (contract, appendix B).
            kestrel.Limits.KeepAliveTimeout = TimeSpan.FromMinutes(3);
        });
        return services;
    }

    /// <summary>Maps the wire contract under <c>/2023-03-30</c>, the platform's own calls under <c>/v1</c>, health, and an error for every other path.</summary>
    /// <param name="routes">The process's routes.</param>
    public static IEndpointRouteBuilder MapGpuTasksGateway(this IEndpointRouteBuilder routes)
    {
        var api = routes.MapGroup("/2023-03-30");
        FunctionEndpoints.Map(api);
        AsyncInvokeConfigEndpoints.Map(api);
        CapacityEndpoints.Map(api);
        InvocationEndpoints.Map(api);
        AsyncTaskEndpoints.Map(api);
        VersionEndpoints.Map(api);
        AliasEndpoints.Map(api);
        TagEndpoints.Map(api);
        InstanceEndpoints.Map(api);
        ServiceEndpoints.Map(api);
        var v1 = routes.MapGroup("/v1");
        V1Endpoints.Map(v1);
        OperatorEndpoints.Map(v1);
        TaskBatchEndpoint.Map(v1);
        AccountEndpoints.Map(v1);
        AuditEndpoints.Map(v1);
        DestinationEndpoints.Map(v1);
        TriggerEndpoints.Map(api, v1);
        HttpTriggerEndpoint.Map(routes);
        ApiDocument.Map(v1);
        routes.ServiceProvider.GetRequiredService<HealthEndpoints>().Map(routes);
        routes.Map("/{**path}", http => throw ServiceEndpoints.Refusal(http.Request))
            .Add(endpoint => ((RouteEndpointBuilder)endpoint).Order = int.MaxValue);
        return routes;
    }

    /// <summary>
    /// Lets only the operator key reach everything under a path: as bearer, or as password of HTTP Basic with any user,
    /// which browsers ask for. Call it before what it guards.
    /// </summary>
    /// <param name="app">Pipeline.</param>
    /// <param name="path">Path such as <c>/dashboard</c>.</param>
    public static IApplicationBuilder UseOperatorKey(this IApplicationBuilder app, PathString path)
    {
        var authenticator = app.ApplicationServices.GetRequiredService<Authenticator>();
        return app.Use(async (http, next) =>
        {
            if (http.Request.Path.StartsWithSegments(path, StringComparison.OrdinalIgnoreCase) && !authenticator.IsOperator(http.Request))
            {
                http.Response.Headers.WWWAuthenticate = DashboardRealm;
                throw new ApiException(StatusCodes.Status401Unauthorized, "AccessDenied", "This needs the operator key.");
            }

            await next(http);
        });
    }

    /// <summary>Answers nothing under a path, whoever asks. Call it before what it hides.</summary>
    /// <param name="app">Pipeline.</param>
    /// <param name="path">Path.</param>
    public static IApplicationBuilder UseHidden(this IApplicationBuilder app, PathString path) => app.Use((http, next) =>
        http.Request.Path.StartsWithSegments(path, StringComparison.OrdinalIgnoreCase)
            ? throw ApiErrors.PathNotSupported(http.Request.Method, http.Request.Path)
            : next(http));

    /// <summary>Puts the shell around the whole pipeline, so that nothing of the process answers past it.</summary>
    private sealed class ShellFilter : IStartupFilter
    {
        public Action<IApplicationBuilder> Configure(Action<IApplicationBuilder> next) => app =>
        {
            app.UseMiddleware<RequestShell>();
            next(app);
        };
    }
}
